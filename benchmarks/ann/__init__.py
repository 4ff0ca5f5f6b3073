"""`retr bench ann`: retr's indexes and other systems, compared over the same vectors.

May import retrieval, indexes, `benchmarks.beir` and the modules of `benchmarks`.
"""
