"""The data sets of BEIR: where they are published, what is in them, how they are judged.

Thakur et al., BEIR, 2021. The addresses and MD5 sums are those of BEIR's own table
(`DATASETS_SOURCE`), the numbers of documents and judged queries those of ir_datasets
(`COUNTS_SOURCE`), which counted them. A folder of one's own in BEIR's layout needs no entry here.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ...retrieval.values.errors import InputError

ADDRESS = "https://public.ukp.informatik.tu-darmstadt.de/thakur/BEIR/datasets"
DATASETS_SOURCE = "https://github.com/beir-cellar/beir/wiki/Datasets-available"
COUNTS_SOURCE = "https://github.com/allenai/ir_datasets/blob/master/ir_datasets/etc/metadata.json"


class Group(StrEnum):
    """Which mean a data set is part of."""

    PUBLIC = "public"  # the 13 that BEIR may distribute, apart from the two below
    CQADUPSTACK = "cqadupstack"  # a forum of twelve, whose unweighted mean counts as one data set
    IN_DOMAIN = "in-domain"  # MS MARCO, which most encoders are trained on: in no mean
    OWN = "own"  # a folder of the user's that is none of these


@dataclass(frozen=True, slots=True)
class Dataset:
    """A published data set.

    name:      what users type, and the folder inside the archive: "scifact", "cqadupstack/gis".
    title:     how papers write it.
    split:     the judgments that published figures are over.
    documents: the number of documents.
    queries:   the number of judged queries of the split.
    archive:   the name of the zip file.
    md5:       of the zip file, as BEIR publishes it.
    group:     which mean it is part of.
    drop_self: whether queries are documents too, so that each would find itself.
    """

    name: str
    title: str
    split: str
    documents: int
    queries: int
    archive: str
    md5: str
    group: Group = Group.PUBLIC
    drop_self: bool = False

    @property
    def url(self) -> str:
        """Where BEIR publishes it."""
        return f"{ADDRESS}/{self.archive}"

    @property
    def slug(self) -> str:
        """The name as a file name."""
        return self.name.replace("/", "-")


_FORUMS = {
    "android": (22_998, 699),
    "english": (40_221, 1_570),
    "gaming": (45_301, 1_595),
    "gis": (37_637, 885),
    "mathematica": (16_705, 804),
    "physics": (38_316, 1_039),
    "programmers": (32_176, 876),
    "stats": (42_269, 652),
    "tex": (68_184, 2_906),
    "unix": (47_382, 1_072),
    "webmasters": (17_405, 506),
    "wordpress": (48_605, 541),
}

_SETS = (
    Dataset(
        name="msmarco",
        title="MS MARCO",
        split="dev",
        documents=8_841_823,
        queries=6_980,
        archive="msmarco.zip",
        md5="444067daf65d982533ea17ebd59501e4",
        group=Group.IN_DOMAIN,
    ),
    Dataset(
        name="trec-covid",
        title="TREC-COVID",
        split="test",
        documents=171_332,
        queries=50,
        archive="trec-covid.zip",
        md5="ce62140cb23feb9becf6270d0d1fe6d1",
    ),
    Dataset(
        name="nfcorpus",
        title="NFCorpus",
        split="test",
        documents=3_633,
        queries=323,
        archive="nfcorpus.zip",
        md5="a89dba18a62ef92f7d323ec890a0d38d",
    ),
    Dataset(
        name="nq",
        title="NQ",
        split="test",
        documents=2_681_468,
        queries=3_452,
        archive="nq.zip",
        md5="d4d3d2e48787a744b6f6e691ff534307",
    ),
    Dataset(
        name="hotpotqa",
        title="HotpotQA",
        split="test",
        documents=5_233_329,
        queries=7_405,
        archive="hotpotqa.zip",
        md5="f412724f78b0d91183a0e86805e16114",
    ),
    Dataset(
        name="fiqa",
        title="FiQA-2018",
        split="test",
        documents=57_638,
        queries=648,
        archive="fiqa.zip",
        md5="17918ed23cd04fb15047f73e6c3bd9d9",
    ),
    Dataset(
        name="arguana",
        title="ArguAna",
        split="test",
        documents=8_674,
        queries=1_406,
        archive="arguana.zip",
        md5="8ad3e3c2a5867cdced806d6503f29b99",
        drop_self=True,
    ),
    Dataset(
        name="webis-touche2020",
        title="Touché-2020",
        split="test",
        documents=382_545,
        queries=49,
        archive="webis-touche2020.zip",
        md5="46f650ba5a527fc69e0a6521c5a23563",
    ),
    *(
        Dataset(
            name=f"cqadupstack/{forum}",
            title=f"CQADupStack {forum}",
            split="test",
            documents=documents,
            queries=queries,
            archive="cqadupstack.zip",
            md5="4e41456d7df8ee7760a7f866133bda78",
            group=Group.CQADUPSTACK,
        )
        for forum, (documents, queries) in _FORUMS.items()
    ),
    Dataset(
        name="quora",
        title="Quora",
        split="test",
        documents=522_931,
        queries=10_000,
        archive="quora.zip",
        md5="18fb154900ba42a600f84b839c173167",
        drop_self=True,
    ),
    Dataset(
        name="dbpedia-entity",
        title="DBPedia",
        split="test",
        documents=4_635_922,
        queries=400,
        archive="dbpedia-entity.zip",
        md5="c2a39eb420a3164af735795df012ac2c",
    ),
    Dataset(
        name="scidocs",
        title="SCIDOCS",
        split="test",
        documents=25_657,
        queries=1_000,
        archive="scidocs.zip",
        md5="38121350fc3a4d2f48850f6aff52e4a9",
    ),
    Dataset(
        name="fever",
        title="FEVER",
        split="test",
        documents=5_416_568,
        queries=6_666,
        archive="fever.zip",
        md5="5a818580227bfb4b35bb6fa46d9b6c03",
    ),
    Dataset(
        name="climate-fever",
        title="Climate-FEVER",
        split="test",
        documents=5_416_593,
        queries=1_535,
        archive="climate-fever.zip",
        md5="8b66f0a9126c521bae2bde127b4dc99d",
    ),
    Dataset(
        name="scifact",
        title="SciFact",
        split="test",
        documents=5_183,
        queries=300,
        archive="scifact.zip",
        md5="5f7d1de60b170fc8027bb7898e2efca1",
    ),
)

DATASETS = {dataset.name: dataset for dataset in _SETS}
PUBLIC = tuple(d.name for d in _SETS if d.group is Group.PUBLIC)
FORUMS = tuple(d.name for d in _SETS if d.group is Group.CQADUPSTACK)

_SEVERAL = {"cqadupstack": FORUMS, "all": (*PUBLIC, *FORUMS)}


def expand(names: Iterable[str]) -> list[Dataset | Path]:
    """Return what each name stands for, once each: a data set of BEIR, or a folder.

    names: a registered name; "cqadupstack" for its twelve forums; "all" for the 13 public sets
           and the forums; or the path of a folder in BEIR's layout. A name wins over a folder
           of that name in the working directory: write ./NAME for the folder.

    Raises:
        InputError: something is neither a name nor a folder; the message has near names.
    """
    found: dict[Dataset | Path, None] = {}
    for name in names:
        if not name.strip():
            raise InputError("a data set's name is empty; name one, such as scifact, or a folder")
        if name in DATASETS:
            found[DATASETS[name]] = None
        elif name in _SEVERAL:
            found.update(dict.fromkeys(DATASETS[each] for each in _SEVERAL[name]))
        elif Path(name).expanduser().is_dir():
            found[Path(name).expanduser().resolve()] = None
        else:
            raise InputError(_unknown(name))
    if not found:
        raise InputError("no data set is given; name one, such as scifact, or a BEIR folder")
    return list(found)


def cache_folder() -> Path:
    """Return the folder of the user's for what can be made or downloaded again."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The specification has relative paths ignored.
    root = Path(base) if Path(base).is_absolute() else Path.home() / ".cache"
    return root / "retr"


def _unknown(name: str) -> str:
    if os.sep in name and not name.startswith("cqadupstack/"):
        return f"there is no folder {name!r}"
    known = [*DATASETS, *_SEVERAL]
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    shown = ", ".join(near or known)
    return f"{name!r} is no data set of BEIR and no folder; {'near' if near else 'known'}: {shown}"
