"""Which index to build and where to run it: the cheapest candidate that meets a recall.

May import everything else in `indexes`.
"""
