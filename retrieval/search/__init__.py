"""Search, from the query to the hits; `path.py` is the path that every search takes.

May import segments, bridges, sources, results, evaluation, encoders, text, store, values and
indexes.
"""
