"""Benchmarks: what retrieval is measured with, and the reports of it."""
