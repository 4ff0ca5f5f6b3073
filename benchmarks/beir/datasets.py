"""The data sets of BEIR: where they are published, what is in them, how they are judged.

Thakur et al., BEIR, 2021. The addresses and MD5 sums are those of BEIR's own table
(`DATASETS_SOURCE`), the numbers of documents and judged queries those of ir_datasets
(`COUNTS_SOURCE`), which counted them; all of it is in datasets.toml. A folder of one's own in
BEIR's layout needs no entry there.
"""

from __future__ import annotations

import difflib
import os
import tomllib
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
    documents: int
    queries: int
    archive: str
    md5: str
    split: str = "test"
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


def _read() -> dict[str, Dataset]:
    table = tomllib.loads(Path(__file__).with_name("datasets.toml").read_text("utf-8"))
    found = (
        Dataset(**{**each, "group": Group(each.get("group", Group.PUBLIC))})
        for each in table["dataset"]
    )
    return {dataset.name: dataset for dataset in found}


DATASETS = _read()
PUBLIC = tuple(d.name for d in DATASETS.values() if d.group is Group.PUBLIC)
FORUMS = tuple(d.name for d in DATASETS.values() if d.group is Group.CQADUPSTACK)

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
