"""Filters: which rows of a snapshot a search is allowed to find.

May import segments, store and values.
"""
