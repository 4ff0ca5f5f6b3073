"""Evaluation: measures over runs and qrels, TREC files, confidence intervals and paired tests.

May import values, but never encoders.
"""

from __future__ import annotations

from .measures import Absent, Evaluation, evaluate, table
from .movers import FoundDocument, MovedQuery, moved_queries
from .names import DEFAULT_MEASURES, Measure, parse_measure, parse_measures
from .significance import (
    Comparison,
    Difference,
    Interval,
    Move,
    PValue,
    compare,
    compare_all,
    interval,
)
from .trec import Qrels, Run, ranked, read_qrels, read_run, write_qrels, write_run

__all__ = [
    "DEFAULT_MEASURES",
    "Absent",
    "Comparison",
    "Difference",
    "Evaluation",
    "FoundDocument",
    "Interval",
    "Measure",
    "Move",
    "MovedQuery",
    "PValue",
    "Qrels",
    "Run",
    "compare",
    "compare_all",
    "evaluate",
    "interval",
    "moved_queries",
    "parse_measure",
    "parse_measures",
    "ranked",
    "read_qrels",
    "read_run",
    "table",
    "write_qrels",
    "write_run",
]
