"""Benchmarks: what measures retrieval, the results that are kept, and the reports made from them.

`beir/`, `ann/`, `images/` and `upgrades/` have the four suites of `retr bench`; `studies/` has
single questions. The modules here are what they share. May import retrieval and indexes.
"""
