"""Retrieval: documents in, hits out. `collection.py` has the object that users hold.

`search/path.py` is the one search path, `writing/commits.py` makes every change. Imports go down:
build > collection > info > upgrade | tuning > search | filters | writing > segments > bridges |
sources | results > store | evaluation | encoders | text > values. May import indexes.
"""
