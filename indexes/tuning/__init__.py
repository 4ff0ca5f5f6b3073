"""Tuning: which index to build, and at which operating point to search it.

The fastest candidate that reaches the target recall is chosen.

May import everything else in `indexes`.
"""
