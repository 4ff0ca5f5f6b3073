"""How the shipped encoders `static:1` and `static:2` were trained; no search uses this code.

May import retrieval and indexes.
"""
