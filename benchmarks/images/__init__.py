"""`retr bench coco`, and what else is measured with images.

May import retrieval, indexes, `benchmarks.beir` and `benchmarks.ann`.
"""
