"""Everything that changes a collection: ingest, commits, merges, indexes.

May import segments, sources, encoders, store, text and values.
"""
