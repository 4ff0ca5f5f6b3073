"""Which index to build and at which operating point: the cheapest that meets a recall.

May import everything else in `indexes`.
"""
