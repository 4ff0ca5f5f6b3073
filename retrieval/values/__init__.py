"""The values that go in and come out, and the errors; every other room may import them.

May import nothing else of `retrieval`.
"""
