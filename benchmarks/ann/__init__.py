"""`retr bench ann`: indexes beside other systems, over the same vectors.

May import retrieval, indexes and `benchmarks.beir`.
"""
