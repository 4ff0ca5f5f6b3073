"""A search, from the query to the hits; `path.py` is the one path that every query takes.

May import segments, bridges, results, evaluation, encoders, text, store and values.
"""
