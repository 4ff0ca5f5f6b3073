"""Results: the hits of a query, and the HTML page that shows them.

May import text and values.
"""
