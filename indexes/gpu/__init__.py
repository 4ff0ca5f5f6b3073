"""GPUs: which one is used, what FAISS keeps on it, and exact search of the vectors there.

May import the modules of `indexes`, but none of its packages.
"""
