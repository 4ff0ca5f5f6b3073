"""Upgrading the model of a live collection.

The mathematics takes arrays, returns values and knows nothing about collections: `pairs`, `fits`,
`calibrating`, `candidates`, `task`, `choose`, `gate`. The steps of an upgrade use it, each step a
commit: `preparing`, `starting`, `changes`, `steps`, `backfill`.
"""
