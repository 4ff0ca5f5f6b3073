"""Documents in, hits out: the collection and everything it is made of.

May import indexes. `docs/architecture.md` shows the packages and the order of their layers.
"""
