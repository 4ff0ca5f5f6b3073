"""How the shipped encoders `static:1` and `static:2` were made; nothing here runs in a search.

May import retrieval and indexes.
"""
