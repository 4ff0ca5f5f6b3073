"""Writing: every way a collection is changed; ingesting, committing, merging and indexing.

May import segments, sources, encoders, store, text, values and indexes.
"""
