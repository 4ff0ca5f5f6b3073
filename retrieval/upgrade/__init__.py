"""Upgrades: another encoder for a live collection.

The mathematics knows nothing of a collection: `pairs`, `fits`, `calibrating`, `task`, `candidates`,
`choose`, `gate`. The steps of an upgrade, each a commit, are `preparing`, `starting`, `changes`,
`rows`, `steps`, `backfill`; `status` says how far it is. May import search, writing, segments,
bridges, store, evaluation, encoders and values.
"""
