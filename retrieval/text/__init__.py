"""Text: words and stems, splitting into passages, and the highlights that results show.

May import values.
"""
