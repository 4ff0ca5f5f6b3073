"""The values that go in and come out, and the errors; everything may import them.

May import nothing else of `retrieval`.
"""
