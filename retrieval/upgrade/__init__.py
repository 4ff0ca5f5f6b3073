"""Upgrading the model of a live collection: maps between two embedding spaces, fitted and judged.

Arrays in, values out: nothing here knows of a collection. What turns these values into commits
lies beside `retrieval/commits.py`.
"""
