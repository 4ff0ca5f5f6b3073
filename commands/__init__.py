"""The command line: one file a command, and what they share; parse, call, print.

May import everything below: benchmarks, training, retrieval, indexes. Nothing but `cli.py`
imports it.
"""
