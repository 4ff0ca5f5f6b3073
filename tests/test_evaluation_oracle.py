"""Measures against their definitions, against trec_eval's code, and against the program itself."""

from __future__ import annotations

import functools
import math
import os
import random
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from retr.retrieval.evaluation import evaluate, parse_measures, write_qrels, write_run

CASES = 1_200

Run = dict[str, dict[str, float]]
Qrels = dict[str, dict[str, int]]

# Ids whose order by bytes is neither that of numbers nor that of any locale.
POOL = [
    *(f"d{i}" for i in range(24)),
    "D1",
    "é",
    "éa",
    "Z",
    "zz",
    "文書",
    "\U0001f600",
    "\uffee",
    "-",
]


def case(seed: int) -> tuple[Run, Qrels]:
    """A run and qrels with ties, ties in single precision only, grades, gaps on both sides."""
    rng = random.Random(seed)
    queries = [f"q{i}" for i in range(rng.randint(1, 6))]
    qrels: Qrels = {}
    run: Run = {}
    for query in queries:
        grades = rng.choice([(0, 1), (0, 1, 2, 3), (0,), (-1, 0, 1, 2), (1,), (-2, -1)])
        judged = rng.sample(POOL, rng.randint(1, 20))
        qrels[query] = {document: rng.choice(grades) for document in judged}
        if rng.random() < 0.2 and run:
            continue  # the run lacks it
        found = rng.sample(POOL, rng.randint(0 if run else 1, len(POOL)))
        kind = rng.randrange(4)
        run[query] = {
            document: (
                lambda: rng.choice([0.0, -0.0, 1.0, 2.5]),
                lambda: 0.5 + rng.randrange(4) * 1e-9,
                lambda: rng.gauss(0, 1),
                lambda: -float(rng.randrange(6)),
            )[kind]()
            for document in found
        }
    if rng.random() < 0.2:
        run["unjudged"] = {"d1": 1.0}
    return run, qrels


# The definitions.


def single(x: float) -> float:
    return float(struct.unpack("f", struct.pack("f", x))[0])


def order(scores: dict[str, float]) -> list[str]:
    def compare(a: str, b: str) -> int:
        x, y = single(scores[a]), single(scores[b])
        if x != y:
            return -1 if x > y else 1
        return -1 if a.encode() > b.encode() else 1

    return sorted(scores, key=functools.cmp_to_key(compare))


def ndcg(ranking: list[str], judged: dict[str, int], k: int) -> float:
    def dcg(grades: list[int]) -> float:
        return sum(max(g, 0) / math.log2(rank + 1) for rank, g in enumerate(grades[:k], start=1))

    ideal = dcg(sorted(judged.values(), reverse=True))
    return dcg([judged.get(d, 0) for d in ranking]) / ideal if ideal else 0.0


def ap(ranking: list[str], judged: dict[str, int], k: int, rel: int = 1) -> float:
    relevant = {d for d, g in judged.items() if g >= rel}
    hits, total = 0, 0.0
    for rank, document in enumerate(ranking[:k], start=1):
        if document in relevant:
            hits += 1
            total += hits / rank
    return total / len(relevant) if relevant else 0.0


def hits(ranking: list[str], judged: dict[str, int], k: int, rel: int = 1) -> int:
    return len([d for d in ranking[:k] if judged.get(d, -9) >= rel])


def relevant(judged: dict[str, int], rel: int = 1) -> int:
    return len([g for g in judged.values() if g >= rel])


def recall(ranking: list[str], judged: dict[str, int], k: int, rel: int = 1) -> float:
    n = relevant(judged, rel)
    return hits(ranking, judged, k, rel) / n if n else 0.0


def capped(ranking: list[str], judged: dict[str, int], k: int, rel: int = 1) -> float:
    n = min(relevant(judged, rel), k)
    return hits(ranking, judged, k, rel) / n if n else 0.0


def rr(ranking: list[str], judged: dict[str, int], k: int) -> float:
    for rank, document in enumerate(ranking[:k], start=1):
        if judged.get(document, 0) >= 1:
            return 1 / rank
    return 0.0


def bpref(ranking: list[str], judged: dict[str, int]) -> float:
    # Buckley and Voorhees, SIGIR 2004, as trec_eval has it: a judged document of no relevance
    # has grade 0, negative grades are as good as unjudged.
    r = relevant(judged)
    n = len([g for g in judged.values() if g == 0])
    above, total = 0, 0.0
    for document in ranking:
        grade = judged.get(document, -1)
        if grade == 0:
            above += 1
        elif grade > 0:
            total += 1 - min(above, r) / min(n, r) if above else 1
    return total / r if r else 0.0


ALL = 10**6
DEFINITIONS = {
    "nDCG@10": lambda x, j: ndcg(x, j, 10),
    "nDCG@3": lambda x, j: ndcg(x, j, 3),
    "nDCG": lambda x, j: ndcg(x, j, ALL),
    "nDCG(gains={1:3,2:1})@5": lambda x, j: ndcg(
        x, {d: {1: 3, 2: 1}.get(g, g) for d, g in j.items()}, 5
    ),
    "nDCG(judged_only=True)@5": lambda x, j: ndcg([d for d in x if j.get(d, -1) >= 0], j, 5),
    "AP": lambda x, j: ap(x, j, ALL),
    "AP(rel=2)": lambda x, j: ap(x, j, ALL, 2),
    "AP@5": lambda x, j: ap(x, j, 5),
    "R@5": lambda x, j: recall(x, j, 5),
    "R@100": lambda x, j: recall(x, j, 100),
    "R(rel=2)@5": lambda x, j: recall(x, j, 5, 2),
    "R_cap@3": lambda x, j: capped(x, j, 3),
    "R_cap(rel=2)@1": lambda x, j: capped(x, j, 1, 2),
    "P@5": lambda x, j: hits(x, j, 5) / 5,
    "P@100": lambda x, j: hits(x, j, 100) / 100,
    "P(rel=2)@5": lambda x, j: hits(x, j, 5, 2) / 5,
    "RR": lambda x, j: rr(x, j, ALL),
    "RR@10": lambda x, j: rr(x, j, 10),
    "RR@2": lambda x, j: rr(x, j, 2),
    "Success@1": lambda x, j: float(hits(x, j, 1) > 0),
    "Success@5": lambda x, j: float(hits(x, j, 5) > 0),
    "Rprec": lambda x, j: recall(x, j, relevant(j)),
    "Bpref": bpref,
    "SetP": lambda x, j: hits(x, j, ALL) / len(x) if x else 0.0,
    "SetR": lambda x, j: recall(x, j, ALL),
    "Judged@5": lambda x, j: (
        len([d for d in x[:5] if d in j]) / min(5, len(x)) if x else 0.0
    ),
    "NumRet": lambda x, j: float(len(x)),
    "NumRet(rel=1)": lambda x, j: float(hits(x, j, ALL)),
    "NumRel": lambda x, j: float(relevant(j)),
    "NumQ": lambda x, j: 1.0,
}  # fmt: skip
SUMS = {"NumRet", "NumRet(rel=1)", "NumRel", "NumQ"}

# trec_eval's names for those it has. 9.0.4 has no set measures under these options.
TREC_EVAL = {
    "nDCG@10": "ndcg_cut_10",
    "nDCG@3": "ndcg_cut_3",
    "nDCG": "ndcg",
    "AP": "map",
    "AP@5": "map_cut_5",
    "R@5": "recall_5",
    "R@100": "recall_100",
    "P@5": "P_5",
    "P@100": "P_100",
    "RR": "recip_rank",
    "Success@1": "success_1",
    "Success@5": "success_5",
    "Rprec": "Rprec",
    "Bpref": "bpref",
    "SetP": "set_P",
    "SetR": "set_recall",
    "NumRet": "num_ret",
    "NumRet(rel=1)": "num_rel_ret",
    "NumRel": "num_rel",
    "NumQ": "num_q",
}


def without_all_negative(qrels: Qrels) -> Qrels:
    """Leave out queries that trec_eval itself does not survive: all judgments negative."""
    return {q: judged for q, judged in qrels.items() if max(judged.values()) >= 0}


def cases() -> Iterator[tuple[Run, Qrels]]:
    return map(case, range(CASES))


def test_the_cases_have_what_they_are_to_show() -> None:
    ties = single_ties = missing = unjudged = graded = negative = barren = empty = 0
    for run, qrels in cases():
        for scores in run.values():
            values = list(scores.values())
            ties += len(set(values)) < len(values)
            single_ties += len(set(map(single, values))) < len(set(values))
            empty += not scores
        missing += not qrels.keys() <= run.keys()
        unjudged += "unjudged" in run
        graded += any(g > 1 for judged in qrels.values() for g in judged.values())
        negative += any(g < 0 for judged in qrels.values() for g in judged.values())
        barren += any(max(judged.values()) <= 0 for judged in qrels.values())
    assert CASES >= 1_000
    assert min(ties, single_ties, missing, unjudged, graded, negative, barren, empty) > 30


def test_values_and_means_are_the_definitions() -> None:
    measures = parse_measures(DEFINITIONS)
    for seed, (run, qrels) in enumerate(cases()):
        absent = ("zero", "skip")[seed % 2]
        result = evaluate(run, qrels, measures, absent=absent)
        counted = [q for q in qrels if absent == "zero" or q in run]
        assert list(result.queries) == counted
        rankings = {q: order(run.get(q, {})) for q in counted}
        for name, definition in DEFINITIONS.items():
            expected = [definition(rankings[q], qrels[q]) for q in counted]
            actual = list(result.per_query[name].values())
            # plain comparisons: a million calls of pytest.approx would take a minute
            assert all(abs(x - y) <= 1e-9 for x, y in zip(actual, expected, strict=True)), (
                seed, name, actual, expected,
            )  # fmt: skip
            mean = sum(expected) / (1 if name in SUMS else len(expected))
            assert abs(result[name] - mean) <= 1e-9, (seed, name)


def test_values_are_those_of_trec_eval_s_code_on_the_scores_themselves() -> None:
    import pytrec_eval

    measures = parse_measures(TREC_EVAL)
    for seed, (run, judged) in enumerate(cases()):
        qrels = without_all_negative(judged)
        if run.keys().isdisjoint(qrels):
            continue
        theirs = pytrec_eval.RelevanceEvaluator(qrels, set(TREC_EVAL.values())).evaluate(run)
        ours = evaluate(run, qrels, measures, absent="skip")
        for query in ours.queries:
            for name, trec_name in TREC_EVAL.items():
                value = ours.per_query[name][query]
                assert abs(value - theirs[query][trec_name]) <= 1e-9, (seed, query, name)


def program() -> str:
    found = os.environ.get("RETR_TREC_EVAL") or shutil.which("trec_eval")
    if not found:
        pytest.skip("no trec_eval: name the program in RETR_TREC_EVAL or put it on PATH")
    return found


def test_values_are_what_trec_eval_prints(tmp_path: Path) -> None:
    trec_eval = program()
    measures = parse_measures(TREC_EVAL)
    names = {trec_name: name for name, trec_name in TREC_EVAL.items()}
    cutoffs: dict[str, list[str]] = {}
    for name in names:
        stem, _, cutoff = name.rpartition("_")
        cutoffs.setdefault(*((stem, []) if cutoff.isdigit() else (name, []))).append(cutoff)
    options = [
        word
        for stem, numbers in cutoffs.items()
        for word in ("-m", f"{stem}.{','.join(numbers)}" if numbers[0].isdigit() else stem)
    ]
    run_file, qrels_file = tmp_path / "run", tmp_path / "qrels"
    for seed, (run, judged) in enumerate(cases()):
        qrels = without_all_negative(judged)
        if not any(run[q] for q in qrels if q in run):
            continue  # a file cannot say that a query found nothing
        write_run(run, run_file)
        write_qrels(qrels, qrels_file)
        command = [trec_eval, "-q", "-c", *options, str(qrels_file), str(run_file)]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        ours = evaluate(run_file, qrels_file, measures)
        seen = 0
        for line in printed.splitlines():
            trec_name, query, value = line.split()
            name = names[trec_name]
            actual = ours[name] if query == "all" else ours.per_query[name][query]
            assert abs(actual - float(value)) <= 1e-4, (seed, query, name)
            seen += query == "all"
        assert seen == len(TREC_EVAL), printed
