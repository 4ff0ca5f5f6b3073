"""Filters: which rows of a snapshot a search may find.

May import segments, store and values.
"""
