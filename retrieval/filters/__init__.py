"""Filters: which rows of a snapshot a search may return.

May import segments, store and values.
"""
