"""`retr bench upgrades`, the protocol of BT², and maps that an upgrade does not choose from.

May import retrieval, indexes, `benchmarks.beir`, `benchmarks.ann` and the modules of `benchmarks`.
"""
