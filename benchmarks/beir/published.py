"""Published figures on BEIR, each with its source and settings, and what encoders were trained on.

A figure belongs beside a row that was made the same way and beside no other: BM25's beside a
lexical row, an encoder's beside a dense row of that encoder. Figures for which no source was
found are left out: MiniLM on NFCorpus and TREC-COVID, BM25 on MS MARCO dev by nDCG@10. The figures
themselves are in published.toml.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .datasets import FORUMS

MEASURE = "nDCG@10"


@dataclass(frozen=True, slots=True)
class Published:
    """Figures of one system, over the data sets it was published for.

    system:   who published what, as it is printed.
    row:      the kind of row it may stand beside: "lexical" or "dense".
    settings: how it was made.
    source:   its address.
    values:   data set -> nDCG@10.
    model:    for dense rows, the encoder (a name of `known_model`); else None.
    sources:  data set -> address, if it is another than `source`.
    """

    system: str
    row: str
    settings: str
    source: str
    values: Mapping[str, float]
    model: str | None = None
    sources: Mapping[str, str] = field(default_factory=dict)

    def source_of(self, dataset: str) -> str:
        """Return the address of the figure for a data set."""
        return self.sources.get(dataset, self.source)


@dataclass(frozen=True, slots=True)
class Training:
    """What an encoder was trained on, if BEIR has it too.

    source:       the address that says so.
    fingerprints: of its weights as st loads them, under whatever path they lie.
    students:     the built-in encoders that were distilled from it.
    why:          data set -> what of the training data it is.
    """

    model: str
    source: str
    fingerprints: Sequence[str]
    students: Sequence[str]
    why: Mapping[str, str]


_TABLE = tomllib.loads(Path(__file__).with_name("published.toml").read_text("utf-8"))
PUBLISHED = tuple(Published(**each) for each in _TABLE["published"])
TRAINING = {each["model"]: Training(**each) for each in _TABLE["training"]}


def known_model(space: Mapping[str, object]) -> str | None:
    """Return the published model whose vectors a space has, untouched; None for any other.

    space: `Space.to_json`. The weights decide, not the name; cut dimensions, prompts or another
           length limit make it another system than the published one.
    """
    trained = training_of(space) if space["family"] == "st" else None
    whole = space["dim"] == 384 and not space["document_prompt"] and space["max_length"] == 256
    return trained.model if trained is not None and whole else None


def training_of(space: Mapping[str, object]) -> Training | None:
    """Return what the model behind a space, itself or its teacher, was trained on."""
    revision = str(space["revision"])
    for training in TRAINING.values():
        if space["family"] == "static":
            if f"static:{revision}" in training.students:
                return training
        elif revision in training.fingerprints:
            return training
    return None


def published_for(dataset: str, row: str, model: str | None) -> tuple[tuple[Published, float], ...]:
    """Return the published figures that may stand beside a row, with the system they are of.

    dataset: a registered name, or "cqadupstack" for the mean of its forums.
    row:     "dense" or "lexical".
    model:   the known model of a dense row.
    """
    return tuple(
        (published, value)
        for published in PUBLISHED
        if published.row == row and published.model == model
        if (value := figure(published, dataset)) is not None
    )


def figure(published: Published, dataset: str) -> float | None:
    """Return the published figure for a data set, None if there is none."""
    if dataset in published.values:
        return published.values[dataset]
    if dataset == "cqadupstack" and all(forum in published.values for forum in FORUMS):
        return sum(published.values[forum] for forum in FORUMS) / len(FORUMS)
    return None
