"""Upgrades: replacing the encoder of a collection that is in use.

`pairs`, `fits`, `calibrating`, `candidates`, `task` and `choose` fit and choose a bridge or a
forward map; they work on arrays and know nothing about a collection. `gate` measures what an
upgrade would do. `rows`, `preparing`, `starting`, `changes`, `steps` and `backfill` do it, in steps
that are commits; `status` says how far it is.

May import search, writing, segments, bridges, evaluation, encoders, store, values and indexes.
"""
