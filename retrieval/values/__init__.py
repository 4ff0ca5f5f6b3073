"""Values: documents, queries, hits, settings, reports and errors, which every layer uses.

May import indexes, and nothing else of `retrieval`.
"""
