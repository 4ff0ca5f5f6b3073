"""The command line: the groups of commands and what they share. They parse, call and print.

May import everything below it: benchmarks, training, retrieval and indexes. Only `cli.py` and
`__main__.py` import this package.
"""
