"""`retr bench coco`, and the other measurements that use images.

May import retrieval, indexes, `benchmarks.beir`, `benchmarks.ann` and the modules of `benchmarks`.
"""
