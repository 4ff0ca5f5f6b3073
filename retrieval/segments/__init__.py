"""One generation, opened: its documents, its dense and lexical segments, their marks and means.

May import bridges, encoders, store, text, values and indexes.
"""
