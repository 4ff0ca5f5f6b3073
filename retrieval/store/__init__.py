"""A collection on disk: manifests, Arrow shards, commits.

May import values.
"""
