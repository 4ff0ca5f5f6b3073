"""`retr bench beir`: data sets, runs, judgments, and the report of them.

May import retrieval, indexes and the modules of `benchmarks`, and no other package of benchmarks.
"""
