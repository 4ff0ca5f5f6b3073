"""Bridges: maps between two embedding spaces, as values that are applied to queries and vectors.

They are fitted in `retrieval.upgrade` and loaded when a query needs one.

May import store and values, but never encoders.
"""
