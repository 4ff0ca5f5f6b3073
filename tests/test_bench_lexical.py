"""The benchmark of search by words: its passages are like real text, and its systems answer."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import pytest

from retr.benchmarks.ann.process import Sampler
from retr.benchmarks.studies import zipf
from retr.benchmarks.studies.lexical import STUDY, build_seconds, figures, measure
from retr.benchmarks.studies.lexical_worker import SYSTEMS
from retr.benchmarks.study import read, text_of

PEERS = {"bm25s": "bm25s", "tantivy": "tantivy"}


@pytest.fixture(scope="module")
def texts(data: Path) -> list[str]:
    with (data / "beir" / "scifact" / "corpus.jsonl").open() as lines:
        return [json.loads(line)["text"] for line in islice(lines, 1500)]


@pytest.fixture(scope="module")
def law(texts: Sequence[str]) -> zipf.Law:
    return zipf.fit(texts)


def test_passages_are_the_same_however_many(law: zipf.Law) -> None:
    few = list(zipf.passages(law, 10, seed=3))
    assert list(islice(zipf.passages(law, 5000, seed=3), 10)) == few
    assert len(list(zipf.passages(law, 5000, seed=3))) == 5000
    assert list(zipf.passages(law, 10, seed=4)) != few


def test_passages_have_the_words_of_the_texts(law: zipf.Law, texts: Sequence[str]) -> None:
    real = [text.lower().split() for text in texts]
    tokens = sum(map(len, real))
    drawn: list[list[str]] = []
    for passage in zipf.passages(law, 10**6, tokens=200):
        drawn.append(passage.split())
        if len(drawn) % 100 == 0 and sum(map(len, drawn)) > law.tokens:
            break
    own = Counter(word for words in drawn for word in words)
    total = own.total()
    known = dict(zip(law.words, [law.bounds[0], *(law.bounds[1:] - law.bounds[:-1])], strict=True))
    for word in law.words[:20]:
        assert own[word] / total == pytest.approx(known[word], rel=0.1)
    # As many texts have about as many words, of which about as many are seen once.
    assert len(own) == pytest.approx(len(law.words), rel=0.15)
    assert sum(n == 1 for n in own.values()) / len(own) == pytest.approx(1 / law.exponent, abs=0.1)
    repeated = 1 - sum(len(set(words)) for words in real) / tokens
    assert 1 - sum(len(set(words)) for words in drawn) / total == pytest.approx(repeated, abs=0.1)


def test_the_vocabulary_grows_as_a_power_of_the_text(law: zipf.Law) -> None:
    seen: set[str] = set()
    sizes = []
    for number, passage in enumerate(zipf.passages(law, 16_000), 1):
        seen.update(passage.split())
        if number in (4000, 16_000):
            sizes.append(len(seen))
    # The exponent is that of the words beyond; the known ones hold it back at first.
    assert 4 ** (0.6 / law.exponent) < sizes[1] / sizes[0] < 4 ** (1.2 / law.exponent)


def test_every_rank_has_a_word_of_its_own(law: zipf.Law) -> None:
    ranks = [*range(30_000), *(10**6 + 7 * i for i in range(1000)), 2**40]
    assert len({zipf.word(law, rank) for rank in ranks}) == len(ranks)


def test_systems_build_and_answer(texts: Sequence[str], tmp_path: Path) -> None:
    systems = [
        "retr",
        "retr compacted",
        *(name for name, module in PEERS.items() if find_spec(module)),
    ]
    queries = ["do cells of the mouse express this protein?", "risk of breast cancer in women"]
    result = measure(texts[:300], queries, systems, memory=400, rounds=1, scratch=tmp_path)
    assert json.loads(json.dumps(result)) == result
    case = result["cases"]["real"]
    assert case["rows"] == 300
    for name in systems:
        assert case["builds"][name][0]["bytes"] > 1000
        assert all(seconds > 0 for seconds in case["cpu_us"][name]["as asked"][0])
        # Analysers differ; what is found by none of them alone is most of it.
        assert case["overlap"][name]["content words"] > 0.5
    assert case["overlap"]["retr compacted"]["as asked"] == 1
    assert result["memory"]["rows"] == sum(result["memory"]["segments"]) == 400
    assert list(tmp_path.iterdir()) == []
    shown = "\n".join(table.text() for table in STUDY.tables(result))
    assert all(name in shown for name in systems)
    assert STUDY.run is not None
    assert STUDY.run(result) == "300 real, memory of 400"


def test_figures_are_of_the_quickest_round() -> None:
    case = {
        "builds": {"retr": [{"cpu_s": 3.0}, {"cpu_s": 2.0}], "bm25s": [{"cpu_s": 5.0}]},
        "cpu_us": {"retr": {"as asked": [[1, 5, 9], [2, 4, 3]]}},
    }
    median, mean, high = figures(case, "retr", "as asked")
    assert (median, high) == (3, 3)
    assert mean == pytest.approx(8 / 3)
    assert build_seconds(case, "retr") == 2
    assert build_seconds(case, "bm25s numba") == 5


def test_the_sampler_sees_memory_come_and_go() -> None:
    with Sampler(lambda: 7) as sampler:
        block = bytearray(b"x" * (64 << 20))
        while len(sampler.samples) < 4:
            pass
        del block
    assert sampler.before is not None and sampler.most is not None
    assert sampler.most - sampler.before > 48 << 20
    assert sampler.samples[-1][0] == 7
    assert sampler.samples[-1][1] < sampler.most - (48 << 20)


def test_the_kept_result_prints_the_figures_of_both_runs() -> None:
    result = read(Path(__file__).parents[1] / "benchmarks" / "results" / "lexical.json")
    shown = text_of(STUDY, result)
    assert "Building: generated, 100,000 texts of 38 MB, one thread" in shown
    assert "A collection of 1,000,000 texts, 377 MB, built in 173 s of CPU" in shown


def test_there_is_a_system_for_each_name() -> None:
    assert all(callable(make) and make() is not None for make in SYSTEMS.values())
