"""The stems that a collection was made with: recognised, kept apart, never mixed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import Stemmer

import retr
from retr.retrieval.text import stems
from retr.retrieval.text.analysis import LANGUAGES, analyzer
from retr.retrieval.values.errors import InputError

# A release of PyStemmer that stems one word of English in another way.
OTHER = """
import sys, Stemmer
sys.modules["Stemmer"] = other = type(sys)("Stemmer")
class Other:
    def __init__(self, language, size): self.own = Stemmer.Stemmer(language, size)
    def stemWord(self, word): return "bee" if word == "being" else self.own.stemWord(word)
    def stemWords(self, words): return [self.stemWord(word) for word in words]
other.Stemmer, other.version = Other, lambda: "9.0.0"
"""


@pytest.mark.parametrize("language", [name for name in LANGUAGES if name != "none"])
def test_the_stemmer_installed_stems_as_version_1_promises(language: str) -> None:
    assert stems.digest(language) == stems._DIGESTS[language], Stemmer.version()


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", OTHER + code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_other_stems_are_never_searched_for(tmp_path: Path) -> None:
    mine, theirs = tmp_path / "mine.retr", tmp_path / "theirs.retr"
    retr.build([{"id": "a", "text": "a bee on a flower"}], mine, progress=False)
    code = f"""
import retr
from retr.retrieval.values.errors import InputError
try:
    retr.open({str(mine)!r}).search("bee")
except InputError as error:
    print(error)
c = retr.build([{{"id": "a", "text": "being a bee"}}], {str(theirs)!r}, progress=False)
print(c.search("bees", mode="lexical")[0].id, c.settings["lexical"]["analyzer"])
"""
    refused, found = run(code).splitlines()
    assert "9.0.0" in refused and "PyStemmer" in refused
    id, name = found.split()
    assert id == "a" and name.startswith("english:1+")
    with pytest.raises(InputError, match="another release of PyStemmer"):
        retr.open(theirs).search("bee")
    assert retr.open(theirs).search("bee", mode="dense")[0].id == "a"


def test_a_newer_release_that_stems_alike_is_welcome(tmp_path: Path) -> None:
    path = tmp_path / "a.retr"
    retr.build([{"id": "a", "text": "bien sûr"}], path, language="french", progress=False)
    out = run(f"import retr; print(retr.open({str(path)!r}).search('bien', mode='lexical')[0].id)")
    assert out == "a"
    assert analyzer("french").name == "french:1"
