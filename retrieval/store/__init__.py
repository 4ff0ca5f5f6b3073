"""A collection on disk: manifests, Arrow shards, atomic commits. May import values."""
