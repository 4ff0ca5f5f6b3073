"""Stems are what a collection stores: another PyStemmer is noticed, and never searched with."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

import retr
from retr.retrieval.text.analysis import LANGUAGES, analyzer
from retr.retrieval.text.golden_stems import CHECKSUMS, GOLDEN
from retr.retrieval.text.stemming import stemmer_mark
from retr.retrieval.values.errors import InputError

# A release of PyStemmer that leaves the ending -ing of English words, and is itself elsewhere.
OTHER_RELEASE = """
import importlib.util
_spec = importlib.util.spec_from_file_location("Stemmer", {real!r})
_real = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_real)

class Stemmer:
    def __init__(self, language, size):
        self._language, self._stemmer = language, _real.Stemmer(language, size)

    def stemWord(self, word):
        kept = self._language == "english" and word.endswith("ing")
        return word if kept else self._stemmer.stemWord(word)

    def stemWords(self, words):
        return [self.stemWord(word) for word in words]
"""
RECORDS = [
    {"_id": "1", "text": "A fox was running through the herring market"},
    {"_id": "2", "text": "The bees are asleep"},
]
PROGRAM = """
import json, sys
import retr
from retr.retrieval.text.analysis import analyzer
from retr.retrieval.values.errors import InputError

def found(collection, **more):
    try:
        return [hit.id for hit in collection.search("runs", k=1, **more)]
    except InputError as error:
        return str(error)

old, records = sys.argv[1], json.loads(sys.argv[2])
collection = retr.open(old)
out = {"lexical": found(collection, mode="lexical"), "dense": found(collection, mode="dense")}
try:
    collection.add([{"_id": "3", "text": "running water"}])
except InputError as error:
    out["add"] = str(error)
out["length"] = len(retr.open(old))
new = retr.build(records, sys.argv[3], progress=False)
out["new"] = found(new, mode="lexical")
out["names"] = [analyzer("english").name, analyzer("german").name]
print(json.dumps(out))
"""


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_installed_release_stems_as_version_1_means(language: str) -> None:
    assert stemmer_mark(language) == ""
    assert analyzer(language).name == f"{language}:1"


def test_every_language_that_is_stemmed_has_golden_words() -> None:
    assert set(GOLDEN) == set(CHECKSUMS) == set(LANGUAGES) - {"none"}
    assert all(len(words.split()) >= 10 for words in GOLDEN.values())


def test_another_release_is_noticed_and_its_own_collections_are_searched(tmp_path: Path) -> None:
    spec = importlib.util.find_spec("Stemmer")
    assert spec
    site = tmp_path / "site"
    site.mkdir()
    (site / "Stemmer.py").write_text(OTHER_RELEASE.format(real=spec.origin))
    retr.build(RECORDS, tmp_path / "old.retr", progress=False)
    program = f"import sys; sys.path.insert(0, {str(site)!r})\n{PROGRAM}"
    arguments = [str(tmp_path / "old.retr"), json.dumps(RECORDS), str(tmp_path / "new.retr")]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    out = json.loads(done.stdout)
    for said in (out["lexical"], out["add"]):
        assert "does not stem english" in said
        assert "'running': 'run', now 'running'" in said
        assert "PyStemmer 3.1" in said
    assert len(out["dense"]) == 1
    assert out["length"] == 2
    assert out["new"] == []  # to this release "runs" and "running" are two words
    name, german = out["names"]
    assert name.startswith("english:1+")
    assert german == "german:1"
    # Back with the release of version 1, the new collection is the one that is refused.
    with pytest.raises(InputError, match=r"does not stem english .* that release"):
        retr.open(tmp_path / "new.retr").search("runs", mode="lexical")
    (hit,) = retr.open(tmp_path / "old.retr").search("runs", k=1, mode="lexical")
    assert hit.id == "1"
