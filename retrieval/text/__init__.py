"""Texts: their words and stems, the passages they are split into, the parts that are shown.

May import values.
"""
