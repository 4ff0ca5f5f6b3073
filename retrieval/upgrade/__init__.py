"""Upgrading the model of a live collection.

The mathematics is arrays in, values out, and knows nothing of a collection: `maps`, `fits`,
`bridge`, `forward`, `calibration`, `choose`, `gate`. What they are used for is the steps of an
upgrade, each a commit: `preparing`, `starting`, `changes`, `steps`, `backfill`.
"""
