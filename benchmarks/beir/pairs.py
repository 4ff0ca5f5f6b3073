"""Two systems on the same queries: what an index loses, and what vectors add to words.

Each data set by the paired tests of `retr eval`. For the mean over data sets each set counts the
same, however many queries it has: queries are resampled within their sets (the stratified
percentile bootstrap), and Fisher's randomisation test flips signs within them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ...retrieval.evaluation import Evaluation, compare
from ...retrieval.evaluation.significance import Difference
from .datasets import FORUMS, Group
from .published import MEASURE
from .results import Entry
from .values import CONFIDENCE, RESAMPLES, SEED, Configuration, Figure, Gain, Loss, main_recall

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

log = logging.getLogger("retr.benchmarks")

_BLOCK = 1 << 21  # values held at once while resampling
# Two values that are equal on paper differ by less than this when summed in another order.
_SAME = 1e-12

Judged = Mapping[str, Evaluation]  # the folder of an entry -> its evaluation
Configured = Mapping[str, Configuration]  # the folder of an entry -> its configuration


def losses(entries: Sequence[Entry], judged: Judged, configured: Configured) -> Iterable[Loss]:
    """Yield what each system with an index loses against the same one without, by measure."""
    by_folder = {entry.folder: entry for entry in entries}
    for entry in entries:
        if entry.base is None:
            continue
        base = by_folder.get(entry.folder.parent / entry.base)
        if base is None or base.dataset["digest"] != entry.dataset["digest"]:
            log.warning("%s: the exact run it belongs to is not there", entry.folder)
            continue
        for d in _differences(base, entry, judged):
            yield Loss(
                dataset=str(entry.dataset["name"]),
                configuration=configured[str(entry.folder)].letter,
                system=str(entry.system["label"]),
                exact=d.base,
                indexed=d.other,
                ann=entry.ann or {},
                **_paired(d),
            )


def gains(entries: Sequence[Entry], judged: Judged, configured: Configured) -> Iterable[Gain]:
    """Yield what the vectors add to the words on each data set and on average, by measure."""
    pairs: dict[str, list[tuple[Entry, Entry]]] = {}
    for entry in entries:
        if entry.system["row"] != "hybrid" or entry.system["spec"] is not None:
            continue
        letter = configured[str(entry.folder)].letter
        words = next((each for each in entries if _is_words_of(each, entry)), None)
        if words is None:
            log.warning("%s: there is no run of words alone to compare it with", entry.folder)
            continue
        pairs.setdefault(letter, []).append((words, entry))
        for d in _differences(words, entry, judged):
            yield Gain(
                dataset=str(entry.dataset["name"]),
                over=(),
                configuration=letter,
                words=d.base,
                hybrid=d.other,
                **_paired(d),
            )
    for letter, each in pairs.items():
        yield from _mean_gains(letter, each, judged)


def _is_words_of(words: Entry, hybrid: Entry) -> bool:
    return (
        words.system["row"] == "lexical"
        and words.folder.parent == hybrid.folder.parent
        and words.dataset["digest"] == hybrid.dataset["digest"]
        and (words.words, words.k, words.limit) == (hybrid.words, hybrid.k, hybrid.limit)
    )


def _differences(base: Entry, other: Entry, judged: Judged) -> tuple[Difference, ...]:
    return compare(
        judged[str(base.folder)],
        judged[str(other.folder)],
        measures=[MEASURE, main_recall(other.evaluation["means"])],
        confidence=CONFIDENCE,
        resamples=RESAMPLES,
        seed=SEED,
        moved=0,
    ).differences


def _paired(d: Difference) -> dict[str, Any]:
    """Return what a gain and a loss have in common."""
    bounds = (d.interval.low, d.interval.high) if d.interval else ()
    return {
        "measure": d.measure,
        "difference": Figure(d.difference, *bounds),
        "p": d.randomisation.p,
        "wins": d.wins,
        "losses": d.losses,
        "ties": d.ties,
    }


def _mean_gains(
    letter: str, pairs: Sequence[tuple[Entry, Entry]], judged: Judged
) -> Iterable[Gain]:
    """Yield the mean over the data sets; the forums of CQADupStack count as one, if all are there.

    Means of figures keep published sets and one's own apart; these are differences, which compare
    with nothing outside.
    """
    weights = _weights([hybrid for _, hybrid in pairs])
    pairs = [pair for pair in pairs if str(pair[1].dataset["name"]) in weights]
    if sum(weights.values()) < 2:
        return
    for measure in (MEASURE, main_recall(pairs[0][1].evaluation["means"])):
        base, other = [], []
        for words, hybrid in pairs:
            found = judged[str(words.folder)], judged[str(hybrid.folder)]
            names = list(found[0].per_query[measure])
            base.append(_values(found[0], measure, names))
            other.append(_values(found[1], measure, names))
        shares = [weights[str(hybrid.dataset["name"])] for _, hybrid in pairs]
        shares = [share / sum(shares) for share in shares]
        changes = [b - a for a, b in zip(base, other, strict=True)]
        low, high, p = over_sets(changes, shares)
        means = [
            sum(share * float(each.mean()) for share, each in zip(shares, values, strict=True))
            for values in (base, other)
        ]
        yield Gain(
            dataset=f"mean of {round(sum(weights.values()))} sets",
            over=tuple(weights),
            configuration=letter,
            measure=measure,
            words=means[0],
            hybrid=means[1],
            difference=Figure(means[1] - means[0], low, high),
            p=p,
            wins=sum(int((d >= _SAME).sum()) for d in changes),
            losses=sum(int((d <= -_SAME).sum()) for d in changes),
            ties=sum(int((abs(d) < _SAME).sum()) for d in changes),
        )


def _weights(entries: Iterable[Entry]) -> dict[str, float]:
    """Return data set -> how much of one set it counts."""
    groups = {str(entry.dataset["name"]): entry.dataset["group"] for entry in entries}
    whole = set(FORUMS) <= {name for name, group in groups.items() if group == Group.CQADUPSTACK}
    return {
        name: 1 / len(FORUMS) if group == Group.CQADUPSTACK else 1.0
        for name, group in groups.items()
        if whole or group != Group.CQADUPSTACK
    }


def _values(evaluation: Evaluation, measure: str, queries: Sequence[str]) -> NDArray[np.float64]:
    import numpy as np

    known = evaluation.per_query[measure]
    return np.array([known[query] for query in queries], np.float64)


def over_sets(
    changes: Sequence[NDArray[np.float64]], shares: Sequence[float]
) -> tuple[float, float, float]:
    """Return the interval of a mean over data sets, and p of the randomisation test.

    changes: f64[queries] for each set, the differences by query.
    shares:  what each set counts of the mean; they sum to 1.

    A sampled p counts the runs themselves as one more sample (Phipson and Smyth 2010).
    """
    import numpy as np

    rng = np.random.default_rng(SEED)
    resampled, flipped = np.zeros(RESAMPLES), np.zeros(RESAMPLES)
    for d, share in zip(changes, shares, strict=True):
        size = max(1, _BLOCK // len(d))
        for start in range(0, RESAMPLES, size):
            part = slice(start, min(start + size, RESAMPLES))
            shape = (part.stop - part.start, len(d))
            resampled[part] += share * d[rng.integers(0, len(d), shape)].mean(axis=1)
            signs = rng.integers(0, 2, shape, dtype=np.int8) * 2 - 1
            flipped[part] += share * (signs @ d) / len(d)
    mean = sum(share * float(d.mean()) for d, share in zip(changes, shares, strict=True))
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(resampled, [tail, 100 - tail])
    extreme = int((np.abs(flipped) >= abs(mean) - _SAME).sum())
    return float(low), float(high), (extreme + 1) / (RESAMPLES + 1)
