"""Published figures on BEIR, each with its source and settings, and what encoders were trained on.

A figure belongs beside a row that was made the same way and beside no other: BM25's beside a
lexical row, an encoder's beside a dense row of that encoder. Figures for which no source was
found are left out: MiniLM on NFCorpus and TREC-COVID, BM25 on MS MARCO dev by nDCG@10.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .datasets import FORUMS

MEASURE = "nDCG@10"

_MINILM = "all-MiniLM-L6-v2"
_PYSERINI = (
    "https://github.com/castorini/pyserini/blob/"
    "02c4e7fa7ae9c555001512194167b039521eb713/pyserini/2cr/beir.yaml"
)
_MTEB = (
    "https://github.com/embeddings-benchmark/results/tree/main/results/"
    "sentence-transformers__all-MiniLM-L6-v2/8b3219a92973c328a8e22fadcfa821b5dc75636a"
)
_MTEB_BOARD = "https://huggingface.co/spaces/mteb/leaderboard"


@dataclass(frozen=True, slots=True)
class Published:
    """Figures of one system, over the data sets it was published for.

    system:   who published what, as it is printed.
    row:      the kind of row it may stand beside: "lexical" or "dense".
    model:    for dense rows, the encoder (a name of `known_model`); else None.
    settings: how it was made.
    source:   its address.
    values:   data set -> nDCG@10.
    sources:  data set -> address, where one has another than `source`.
    """

    system: str
    row: str
    model: str | None
    settings: str
    source: str
    values: Mapping[str, float]
    sources: Mapping[str, str]

    def source_of(self, dataset: str) -> str:
        """Return the address of the figure for a data set."""
        return self.sources.get(dataset, self.source)


@dataclass(frozen=True, slots=True)
class Training:
    """What an encoder was trained on, where BEIR has it too.

    source: the address that says so.
    why:    data set -> what of the training data it is.
    """

    source: str
    why: Mapping[str, str]


def _forums(*values: float) -> dict[str, float]:
    return dict(zip(FORUMS, values, strict=True))


PUBLISHED = (
    Published(
        system="BM25 flat (Pyserini)",
        row="lexical",
        model=None,
        settings="title and text in one field, Pyserini's default BM25, --remove-query, 1000 hits",
        source=_PYSERINI,
        values={
            "trec-covid": 0.5947,
            "nfcorpus": 0.3218,
            "nq": 0.3055,
            "hotpotqa": 0.6330,
            "fiqa": 0.2361,
            "arguana": 0.3970,
            "webis-touche2020": 0.4422,
            **_forums(
                0.3801,
                0.3453,
                0.4822,
                0.2901,
                0.2015,
                0.3214,
                0.2802,
                0.2711,
                0.2244,
                0.2749,
                0.3059,
                0.2483,
            ),
            "quora": 0.7886,
            "dbpedia-entity": 0.3180,
            "scidocs": 0.1490,
            "fever": 0.6513,
            "climate-fever": 0.1651,
            "scifact": 0.6789,
        },
        sources={},
    ),
    Published(
        system="BM25 multifield (Pyserini)",
        row="lexical",
        model=None,
        settings="title and text in two fields of weight 1, Pyserini's default BM25, "
        "--remove-query, 1000 hits",
        source=_PYSERINI,
        values={
            "trec-covid": 0.6559,
            "nfcorpus": 0.3254,
            "nq": 0.3285,
            "hotpotqa": 0.6027,
            "fiqa": 0.2361,
            "arguana": 0.4142,
            "webis-touche2020": 0.3673,
            **_forums(
                0.3709,
                0.3321,
                0.4418,
                0.2904,
                0.2046,
                0.3248,
                0.2963,
                0.2790,
                0.2086,
                0.2788,
                0.3008,
                0.2562,
            ),
            "quora": 0.7886,
            "dbpedia-entity": 0.3128,
            "scidocs": 0.1581,
            "fever": 0.7530,
            "climate-fever": 0.2129,
            "scifact": 0.6647,
        },
        sources={},
    ),
    Published(
        system="all-MiniLM-L6-v2 (MTEB)",
        row="dense",
        model=_MINILM,
        settings="exact search by MTEB, the model's own settings: max length 256, no prompts",
        source=_MTEB,
        values={
            "msmarco": 0.36542,
            "nq": 0.43869,
            "hotpotqa": 0.46513,
            "fiqa": 0.36867,
            "arguana": 0.50167,
            "webis-touche2020": 0.16904,
            "cqadupstack": 0.413248,  # published as the mean of the forums only
            "quora": 0.87552,
            "dbpedia-entity": 0.3233,
            "scidocs": 0.21641,
            "fever": 0.51934,
            "climate-fever": 0.20272,
            "scifact": 0.6451,
        },
        sources={"scifact": _MTEB_BOARD},
    ),
)

_CARD = "https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2#training-data"

TRAINING = {
    _MINILM: Training(
        source=_CARD,
        why={
            "msmarco": "MS MARCO triplets",
            "nq": "Natural Questions",
            "quora": "Quora question triplets",
            "scidocs": "citation pairs of S2ORC and SPECTER, the relation judged here",
            **dict.fromkeys(FORUMS, "Stack Exchange duplicate questions, the relation judged here"),
        },
    ),
}

# The fingerprint of the weights, where they are loaded by st: under whatever path.
_FINGERPRINTS = {"2d10908b9582914e": _MINILM}
_TEACHERS = {"static:1": _MINILM, "static:2": _MINILM}


def known_model(space: Mapping[str, object]) -> str | None:
    """Return the published model whose vectors a space has, untouched; None for any other.

    space: `Space.to_json`. The weights decide, not the name; cut dimensions, prompts or another
           length limit make it another system than the published one.
    """
    model = _FINGERPRINTS.get(str(space["revision"])) if space["family"] == "st" else None
    if model == _MINILM and (
        space["dim"] != 384 or space["document_prompt"] or space["max_length"] != 256
    ):
        return None
    return model


def training_of(space: Mapping[str, object]) -> tuple[str, Training] | None:
    """Return the trained model behind a space (itself or its teacher) and its training data."""
    if space["family"] == "static":
        model = _TEACHERS.get(f"static:{space['revision']}")
    else:
        model = _FINGERPRINTS.get(str(space["revision"]))
    return (model, TRAINING[model]) if model is not None else None


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
    """Return the published figure for a data set, None where there is none."""
    if dataset in published.values:
        return published.values[dataset]
    if dataset == "cqadupstack" and all(forum in published.values for forum in FORUMS):
        return sum(published.values[forum] for forum in FORUMS) / len(FORUMS)
    return None
