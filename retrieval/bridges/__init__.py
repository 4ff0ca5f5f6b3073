"""Bridges: values that carry a query from one embedding space to another.

`retrieval.upgrade` fits them; they are loaded when a query needs one. May import store and values,
never encoders.
"""
