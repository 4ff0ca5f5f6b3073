"""GPUs: which one is meant, what FAISS keeps there, and exact search of vectors that lie on it.

May import the modules of `indexes`, and none of its packages.
"""
