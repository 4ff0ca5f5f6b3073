"""Which segments are merged when: few segments, and no row written too often."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retr.retrieval.writing.merging import DEAD_SHARE, MERGE_FACTOR, SMALLEST_TIER, due_for_merge


@dataclass
class Segment:
    rows: int
    dead: int = 0


class Segments:
    """Segments as a collection has them, without what is in them; counts rows written."""

    def __init__(self) -> None:
        self.segments: list[Segment] = []
        self.written = 0

    def add(self, rows: int) -> None:
        self.segments.append(Segment(rows))
        self.written += rows
        self.merge()

    def kill(self, number: int, rows: int) -> None:
        segment = self.segments[number % len(self.segments)]
        segment.dead = min(segment.rows, segment.dead + rows)
        self.merge()

    def merge(self) -> None:
        while True:
            due = due_for_merge([s.rows for s in self.segments], [s.dead for s in self.segments])
            if due is None:
                return
            group = self.segments[due]
            assert len(group) > 1 or group[0].dead
            alive = sum(s.rows - s.dead for s in group)
            self.segments[due] = [Segment(alive)] if alive else []
            self.written += alive

    @property
    def rows(self) -> int:
        return sum(s.rows for s in self.segments)


def tiers(rows: int) -> int:
    """Return how many tiers segments of up to so many rows are of."""
    count, largest = 1, SMALLEST_TIER
    while largest < rows:
        count, largest = count + 1, largest * MERGE_FACTOR
    return count


def most_segments(rows: int) -> int:
    """Return the bound that `due_for_merge` promises."""
    return 2 * (MERGE_FACTOR - 1) * tiers(rows)


SIZES = st.one_of(
    st.integers(1, 10),
    st.integers(1, 20_000_000),
    st.sampled_from([1, SMALLEST_TIER, SMALLEST_TIER + 1, 65_536, SMALLEST_TIER * MERGE_FACTOR**3]),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(SIZES, max_size=300))
def test_segments_are_few_whatever_is_added_in_whatever_order(sizes: list[int]) -> None:
    segments = Segments()
    for size in sizes:
        segments.add(size)
        assert len(segments.segments) <= most_segments(segments.rows)
    assert segments.rows == sum(sizes)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.sampled_from([SMALLEST_TIER * MERGE_FACTOR**t + 1 for t in range(4)]), max_size=300)
)
def test_a_row_is_written_at_most_twice_a_tier(sizes: list[int]) -> None:
    # Below the smallest tier rows are written more often, and are few.
    segments = Segments()
    for size in sizes:
        segments.add(size)
    assert segments.written <= 2 * tiers(segments.rows) * segments.rows


@pytest.mark.parametrize(
    "pattern",
    [
        [1],
        [1, 2, 3],
        [65_536],
        [65_536, *[1] * 7],  # a large one a night, a few small ones a day
        [*[1] * 7, 5_000, *[1] * 7, 40_000],
    ],
)
def test_many_adds(pattern: list[int]) -> None:
    segments = Segments()
    most = 0
    for i in range(30_000):
        segments.add(pattern[i % len(pattern)])
        most = max(most, len(segments.segments))
    assert most <= most_segments(segments.rows)
    if len(set(pattern)) == 1:  # nothing ever stands before a larger one
        assert most <= (MERGE_FACTOR - 1) * tiers(segments.rows)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(SIZES, st.integers(0, 400), st.integers(0, 10**7)), max_size=100))
def test_deleted_rows_do_not_pile_up(steps: list[tuple[int, int, int]]) -> None:
    segments = Segments()
    for size, number, dead in steps:
        segments.add(size)
        segments.kill(number, dead)
        for segment in segments.segments:
            assert segment.dead <= DEAD_SHARE * segment.rows
        assert len(segments.segments) <= most_segments(segments.rows)
