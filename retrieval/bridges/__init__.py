"""Bridges: the maps between two embedding spaces, as values that a query is carried over by.

Fitted in `retrieval.upgrade`, loaded when a query needs one. May import store and values, never
encoders.
"""
