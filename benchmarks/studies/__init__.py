"""Single measurements of speed and memory, each run by `python -m retr.benchmarks.studies.NAME`.

May import retrieval, indexes, `benchmarks.beir`, `benchmarks.ann` and the modules of `benchmarks`.
"""
