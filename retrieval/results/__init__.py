"""What a search returns: hits with their results, and the page that shows them.

May import text and values.
"""
