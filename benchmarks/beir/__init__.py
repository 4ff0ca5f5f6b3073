"""`retr bench beir`: data sets, runs, judgments and their report.

May import retrieval, indexes and the modules of `benchmarks`, but none of its other packages.
"""
