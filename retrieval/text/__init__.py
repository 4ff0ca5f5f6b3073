"""Texts: their words and stems, the passages they are split into, and the snippets shown.

May import values.
"""
