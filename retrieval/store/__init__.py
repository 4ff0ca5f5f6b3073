"""A collection on disk: manifests, Arrow shards, locks and commits.

May import values.
"""
