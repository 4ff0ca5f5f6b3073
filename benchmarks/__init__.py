"""Benchmarks: what speed, memory and quality are measured with, and the reports of the results.

`beir/`, `ann/`, `images/` and `upgrades/` hold the `retr bench` commands' suites; `studies/` holds
single measurements. The modules here are shared by all of them.

May import retrieval and indexes.
"""
