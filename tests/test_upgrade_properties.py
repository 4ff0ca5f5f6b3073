"""Any sequence of writes and steps of upgrades, held against a plain dictionary and brute force."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import retr
from retr.retrieval.values.errors import InputError

from .upgrades import (
    ModelEncoder,
    assert_same_answers,
    assert_scores,
    documents,
    new_encoder,
    old_encoder,
    text_of,
    texts_found,
)

FIRST = 40
IDS = st.integers(0, FIRST + 8)


class Upgrades(RuleBasedStateMachine):
    """Documents by id, and the encoder that answers: all that a user knows of."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "c.retr"
        self.collection = retr.build(documents(range(FIRST)), self.path, encoder=old_encoder())
        self.texts: dict[str, str | None] = {f"d{i}": text_of(i) for i in range(FIRST)}
        self.encoder: ModelEncoder = old_encoder()
        self.before: ModelEncoder | None = None  # what an upgrade came from
        self.back = False
        self.mapped = False  # mapped vectors were kept at a finish
        self.version = 1

    def teardown(self) -> None:
        self.folder.cleanup()

    @rule(first=IDS, count=st.integers(1, 6))
    def add(self, first: int, count: int) -> None:
        self.version += 1
        numbers = range(first, first + count)
        self.collection.add(documents(numbers, self.version), progress=False)
        self.texts |= {f"d{i}": text_of(i, self.version) for i in numbers}

    @rule(numbers=st.sets(IDS, max_size=12))
    def delete(self, numbers: set[int]) -> None:
        ids = sorted({f"d{i}" for i in numbers} & self.texts.keys())
        if len(self.texts) - len(ids) >= 25:  # a bridge needs some
            assert self.collection.delete(ids) == len(ids)
            for id in ids:
                del self.texts[id]

    @rule()
    def compact(self) -> None:
        self.collection.compact()

    @rule()
    def open_again(self) -> None:
        self.collection = retr.open(self.path, encoder=self.encoder)

    @rule(sample=st.integers(20, 60))
    def start(self, sample: int) -> None:
        to = new_encoder() if self.encoder.name == "model:old" else old_encoder()
        if self.before is not None or self.mapped:
            with pytest.raises(InputError, match=r"an upgrade is|vectors mapped from"):
                self.collection.upgrade(to, sample=sample, force=True, progress=False)
            return
        report = self.collection.upgrade(to, sample=sample, force=True, progress=False)
        assert report["started"]
        self.before, self.encoder = self.encoder, to

    @precondition(lambda self: self.before is not None and not self.back)
    @rule()
    def map(self) -> None:
        self.collection.map_upgrade(progress=False)
        assert self.collection.upgrade_status()["old"] == 0

    @precondition(lambda self: self.before is not None or self.mapped)
    @rule(rows=st.integers(1, 40), order=st.sampled_from([None, "random"]))
    def backfill(self, rows: int, order: str | None) -> None:
        status = self.collection.upgrade_status()
        waiting = status["rows"] - status["new"]
        seen = len(self.collection.encoder.seen)  # type: ignore[attr-defined]
        if not waiting and self.before is None:
            return
        report = self.collection.backfill(rows, order=order, progress=False)
        assert report.rows == min(rows, waiting)
        assert len(self.collection.encoder.seen) - seen == report.rows  # type: ignore[attr-defined]
        assert report.left == waiting - report.rows
        self.mapped &= report.left > 0
        if self.back and not report.left:
            self.before, self.back = None, False

    @precondition(lambda self: self.before is not None)
    @rule(keep=st.booleans())
    def finish(self, keep: bool) -> None:
        status = self.collection.upgrade_status()
        waiting = status["rows"] - status["new"]
        if waiting and not (keep and not status["old"]):
            with pytest.raises(InputError, match="rows have n"):
                self.collection.finish_upgrade(keep_mapped=keep)
            return
        self.collection.finish_upgrade(keep_mapped=keep)
        self.before, self.back, self.mapped = None, False, waiting > 0

    @precondition(lambda self: self.before is not None)
    @rule()
    def roll_back(self) -> None:
        if self.back:
            with pytest.raises(InputError, match="being rolled back already"):
                self.collection.rollback_upgrade(encoder=self.before)
            return
        left = self.collection.rollback_upgrade(encoder=self.before)
        assert self.before is not None
        self.before, self.encoder = self.encoder, self.before
        self.back = left > 0
        if not left:
            self.before = None

    @invariant()
    def nothing_is_lost_or_found_twice(self) -> None:
        assert self.collection.space == self.encoder.space
        assert texts_found(self.collection) == self.texts
        assert_scores(self.collection)
        status = self.collection.upgrade_status()
        assert status["rows"] == len(self.texts)
        if status["new"] == status["rows"]:
            fresh = retr.build(
                [retr.Document(id, text) for id, text in self.texts.items()],
                Path(tempfile.mkdtemp(dir=self.folder.name)) / "c.retr",
                encoder=self.encoder,
            )
            assert_same_answers(self.collection, fresh)


Upgrades.TestCase.settings = settings(
    max_examples=12,
    stateful_step_count=14,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
TestUpgrades = Upgrades.TestCase
