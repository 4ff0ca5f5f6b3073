"""`retr bench upgrades`, BT²'s protocol, and maps that an upgrade does not choose from.

May import retrieval, indexes, `benchmarks.beir` and `benchmarks.ann`.
"""
