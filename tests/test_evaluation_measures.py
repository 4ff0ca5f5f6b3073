"""What can be given, how queries count, which names are known, and what is refused."""

from __future__ import annotations

import itertools
import json
import logging
import os
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from retr.retrieval.evaluation import (
    Evaluation,
    evaluate,
    parse_measure,
    parse_measures,
    table,
    write_qrels,
    write_run,
)
from retr.retrieval.results.results import Results
from retr.retrieval.values.errors import InputError
from retr.retrieval.values.types import Hit, Query

RUN = {"1": {"a": 3.0, "b": 2.0, "c": 1.0}, "2": {"c": 1.0}, "9": {"a": 1.0}}
QRELS = {"1": {"b": 2, "x": 1, "a": 0}, "2": {"c": 1}, "3": {"a": 1}}
MEASURES = ("nDCG@10", "AP", "RR@10", "R@100", "R_cap@100")


def hit(document: str, score: float) -> Hit:
    return Hit(document, score, None, None, None, {}, 0)


def forms_of_the_run(folder: Path) -> dict[str, object]:
    import ir_measures
    import pandas as pd
    import polars as pl
    import pyarrow as pa

    rows = [(q, d, s) for q, scores in RUN.items() for d, s in scores.items()]
    columns = dict(
        zip(("query_id", "doc_id", "score"), map(list, zip(*rows, strict=True)), strict=True)
    )
    terrier = dict(zip(("qid", "docno", "score"), columns.values(), strict=True))
    write_run(RUN, folder / "run.gz")
    return {
        "path": folder / "run.gz",
        "name of a path": str(folder / "run.gz"),
        "ir_measures' objects": (ir_measures.ScoredDoc(*row) for row in rows),
        "triples": iter(rows),
        "pandas": pd.DataFrame(columns),
        "PyTerrier's frame": pd.DataFrame(terrier).assign(rank=0),
        "pandas with numbers for ids": pd.DataFrame(columns).astype({"query_id": int}),
        "polars": pl.DataFrame(columns),
        "pyarrow": pa.table(columns),
        "numbers for ids": {int(q): scores for q, scores in RUN.items()},
        "pairs with Results": (
            (q, Results(Query(q), [hit(d, s) for d, s in scores.items()], 1))
            for q, scores in RUN.items()
        ),
        "Results by query": {
            q: Results(Query(q), [hit(d, s) for d, s in scores.items()], 1)
            for q, scores in RUN.items()
        },
    }


def forms_of_the_qrels(folder: Path) -> dict[str, object]:
    import ir_measures
    import pandas as pd

    rows = [(q, d, g) for q, judged in QRELS.items() for d, g in judged.items()]
    columns = dict(
        zip(("query_id", "doc_id", "relevance"), map(list, zip(*rows, strict=True)), strict=True)
    )
    beir = dict(zip(("query-id", "corpus-id", "score"), columns.values(), strict=True))
    write_qrels(QRELS, folder / "qrels")
    (folder / "test.tsv").write_text(
        "query-id\tcorpus-id\tscore\n" + "".join(f"{q}\t{d}\t{g}\n" for q, d, g in rows)
    )
    datasets = namedtuple("TrecQrel", "query_id doc_id relevance iteration")
    return {
        "path": folder / "qrels",
        "tsv": folder / "test.tsv",
        "ir_measures' objects": (ir_measures.Qrel(*row) for row in rows),
        "ir_datasets' objects": [datasets(*row, "0") for row in rows],
        "triples": rows,
        "pandas": pd.DataFrame(columns),
        "BEIR's columns": pd.DataFrame(beir),
        "with floats": {q: {d: float(g) for d, g in judged.items()} for q, judged in QRELS.items()},
        "a query without judgments": {**QRELS, "4": {}},
    }


def test_every_form_of_a_run_and_of_qrels_gives_the_same(tmp_path: Path) -> None:
    expected = evaluate(RUN, QRELS, MEASURES)
    assert expected["AP"] == pytest.approx((0.25 + 1 + 0) / 3)
    for what, run in forms_of_the_run(tmp_path).items():
        assert evaluate(run, QRELS, MEASURES).per_query == expected.per_query, what
    for what, qrels in forms_of_the_qrels(tmp_path).items():
        assert evaluate(RUN, qrels, MEASURES).per_query == expected.per_query, what


def test_absent_queries_count_nothing_or_are_left_out() -> None:
    zero, skip = (evaluate(RUN, QRELS, ["AP"], absent=absent) for absent in ("zero", "skip"))
    assert zero.queries == ("1", "2", "3")
    assert skip.queries == ("1", "2")
    assert zero["AP"] == pytest.approx(1.25 / 3)
    assert skip["AP"] == pytest.approx(1.25 / 2)
    assert zero.missing == skip.missing == ("3",)
    assert zero.unjudged == 1


def test_a_query_that_found_nothing_counts_even_where_absent_ones_do_not() -> None:
    result = evaluate({"1": {}, "2": {"c": 1.0}}, QRELS, ["AP"], absent="skip")
    assert dict(result.per_query["AP"]) == {"1": 0.0, "2": 1.0}


def test_a_query_without_a_relevant_document_counts_nothing() -> None:
    qrels = {"1": {"a": 0}, "2": {"c": 1}}
    result = evaluate(RUN, qrels, ["nDCG@10", "AP", "RR@10", "R@5", "R_cap@5"])
    assert set(result.means.values()) == {0.5}


@pytest.mark.parametrize("first", [["AP"], ["nDCG@10"], ["Rprec", "nDCG@3", "P@1"]])
def test_a_query_with_negative_judgments_only_neither_hangs_nor_borrows(first) -> None:
    evaluate({"q": {"a": 1.0}}, {"q": {"a": 3}}, first)
    run = {"q": {"a": 2.0, "b": 1.0}, "r": {"a": 1.0}}
    qrels = {"q": {"a": 3, "b": 1}, "r": {"a": -1, "c": -2}}
    result = evaluate(run, qrels, ["nDCG", "nDCG@10", "Bpref", "infAP", "NumRel", *first])
    assert {measure: values["r"] for measure, values in result.per_query.items()} == dict.fromkeys(
        result.measures, 0.0
    )


def test_drop_self_is_done_before_the_cut() -> None:
    run = {"q": {"q": 9.0, "a": 2.0, "b": 1.0}, "r": {"r": 1.0}}
    qrels = {"q": {"a": 1, "q": 1}, "r": {"r": 1}}
    with_self = evaluate(run, qrels, ["P@1", "RR@1", "R@2"])
    without = evaluate(run, qrels, ["P@1", "RR@1", "R@1", "Judged@2"], drop_self=True)
    assert with_self["P@1"] == 1.0
    assert without.per_query["P@1"] == {"q": 1.0, "r": 0.0}
    assert without.per_query["R@1"] == {"q": 0.5, "r": 0.0}
    assert without.per_query["Judged@2"] == {"q": 0.5, "r": 0.0}
    assert run["q"]["q"] == 9.0
    assert evaluate({"q": {"q": 9.0, "a": 1.0}}, {"q": {"a": 1}}, ["RR"], drop_self=True)["RR"] == 1


def test_every_measure_sees_the_same_order_among_equal_scores() -> None:
    # ir_measures alone gives RR 0.5 and RR@10 1.0 here.
    result = evaluate({"q": {"a": 1.0, "b": 1.0}}, {"q": {"a": 1}}, ["RR", "RR@10", "R@1"])
    assert result["RR"] == result["RR@10"] == 0.5
    assert result["R@1"] == 0.0


def test_measures_that_need_calls_of_their_own_do_not_change_each_other() -> None:
    names = ["nDCG(gains={1:3,2:1})@10", "nDCG@10", "nDCG(judged_only=True)@10", "NumRet", "NumQ"]
    run = {"1": {"new": 9.0, **RUN["1"]}, "2": RUN["2"]}
    alone = {name: evaluate(run, QRELS, name)[name] for name in names}
    assert len(set(alone.values())) == len(names)
    for order in itertools.permutations(names):
        assert dict(evaluate(run, QRELS, order).means) == alone


def test_the_figures_do_not_depend_on_the_hash_seed(tmp_path: Path) -> None:
    code = (
        "from retr.retrieval.evaluation import evaluate;"
        "m = ['nDCG@10', 'nDCG(gains={0:0,1:3,2:1})@10', 'NumRet', 'P(judged_only=True)@5', 'AP'];"
        "r = {'q': {'a': 1., 'b': 2., 'c': 3.}};"
        "print(dict(evaluate(r, {'q': {'a': 1, 'b': 2}}, m).means))"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            check=True,
            capture_output=True,
            text=True,
            cwd=tmp_path,
        ).stdout
        for seed in range(1, 5)
    }
    assert len(printed) == 1


def test_gdeval_is_given_ids_and_judgments_it_reads_rightly() -> None:
    if parse_without_perl():
        pytest.skip("gdeval needs perl")
    run = {"topic-7": {"a": 2.0, "b": 1.0}, "other-7": {"c": 1.0}}
    qrels = {"topic-7": {"b": 2, "a": 1}, "other-7": {"c": 1}}
    result = evaluate(run, qrels, ["ERR@10", "nDCG(dcg='exp-log2')@10"])
    # ERR, Chapelle et al. 2009, with grades up to 4: (2**g - 1) / 16
    first, second = 1 / 16, 3 / 16
    assert result.per_query["ERR@10"] == pytest.approx(
        {"topic-7": first + (1 - first) * second / 2, "other-7": first}, abs=1e-5
    )
    assert result.per_query["nDCG(dcg='exp-log2')@10"]["other-7"] == 1.0
    with pytest.raises(InputError, match="judgments up to 4"):
        evaluate({"q": {"a": 1.0}}, {"q": {"a": 5}}, "ERR@10")
    with pytest.raises(InputError, match="white space"):
        evaluate({"q": {"a b": 1.0}}, {"q": {"a": 1}}, "ERR@10")


def parse_without_perl() -> bool:
    try:
        parse_measure("ERR@10")
    except InputError:
        return True
    return False


def test_a_measure_of_one_s_own_sees_the_ids() -> None:
    import ir_measures

    seen = []

    def impl(qrels, run):
        seen.append((sorted(set(run["query_id"])), list(run["doc_id"])))
        return 0.25

    result = evaluate(RUN, QRELS, [ir_measures.define_byquery(impl, name="mine")])
    assert result.per_query["mine"] == {"1": 0.25, "2": 0.25, "3": 0.0}
    assert seen[0] == (["1"], ["a", "b", "c"])


def test_names_are_ir_measures_own_and_aliases_lead_to_them() -> None:
    import ir_measures

    names = [
        "nDCG@10", "R@100", "AP", "RR@10", "P(rel=2)@5", "Success@5", "R_cap@100",
        "R_cap(rel=2)@10", "Judged@10", "IPrec@0.1", "SetF(beta=2.0)", "nDCG(gains={1:3})@10",
    ]  # fmt: skip
    for name in names:
        measure = parse_measure(name)
        assert measure.name == parse_measure(measure.name).name
        assert measure.native is None or measure.name == str(ir_measures.parse_measure(name))
    assert [m.name for m in parse_measures(["MAP", "AP", "MRR@10", "NDCG@5", "P(rel=1)@5"])] == [
        "AP", "RR@10", "nDCG@5", "P@5",
    ]  # fmt: skip
    assert parse_measure(ir_measures.nDCG @ 7).name == "nDCG@7"
    assert evaluate(RUN, QRELS, "MAP")["AP"] == evaluate(RUN, QRELS, ir_measures.AP @ 9)["MAP@9"]


def test_trec_eval_s_own_code_computes_what_people_publish() -> None:
    published = ["nDCG@10", "R@100", "AP", "P@5", "RR", "Success@5", "Rprec", "Bpref"]
    assert {m.provider for m in parse_measures(published)} == {"pytrec_eval"}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ndgc@10", "similar: nDCG@10"),
        ("recall@10", "similar: R@10"),
        ("rcap@10", "similar: R_cap@10"),
        ("precsion@5", "similar: P@5"),
        ("qwerty", "known: AP, "),
        ("ndcg_cut_10", "trec_eval's name; write nDCG@10"),
        ("recall_100", "write R@100"),
        ("map", "write AP"),
        ("official", "unknown measure 'official'"),
        ("P", "needs a cutoff, as in P@10"),
        ("R_cap", "write R_cap@K"),
        ("R_cap(p=1)@5", "write R_cap@K"),
        ("nDCG@0", "cutoff 0 is not a whole number from 1"),
        ("P@-5", "cutoff -5"),
        ("nDCG@True", "cutoff True"),
        ("R_cap@1.5", "cutoff 1.5"),
        ("nDCG@1.5", "cutoff=1.5"),
        ("nDCG@99999999999", "cutoff 99999999999"),
        ("P(rel=0)@5", "rel 0"),
        ("P(relevance=2)@5", "['relevance']"),
        ("nDCG(gains={1:-1})@5", "gain -1"),
        ("nDCG(gains={1:99999})@5", "gain 99999"),
        ("IPrec@0.123", "hundredths"),
        ("nDCG(", "cannot be read"),
        ("P(2)@5", "cannot be read"),
        ("P(**x)@5", "cannot be read"),
        ("nDCG@k", "cannot be read"),
        ("__import__('os').getcwd()", "cannot be read"),
        ("", "cannot be read"),
        (7, "give a name"),
        ("alpha_nDCG@10", "subtopics"),
        ("Accuracy", "no value for some queries"),
        ("RR(judged_only=True)@10", "no provider of ir_measures"),
    ],
)
def test_a_measure_that_cannot_be_had_says_why(name, said: str) -> None:
    with pytest.raises(InputError) as error:
        evaluate(RUN, QRELS, ["AP", name])
    assert said in str(error.value)


def test_a_measure_whose_library_is_missing_says_how_to_install_it() -> None:
    import ir_measures

    if ir_measures.cwl_eval.is_available():
        pytest.skip("cwl_eval is installed")
    with pytest.raises(InputError, match=r"pip install ir-measures\[cwl"):
        evaluate(RUN, QRELS, "RBP(rel=1)")


@pytest.mark.parametrize(
    ("run", "qrels", "said"),
    [
        ({"x": {"a": 1.0}}, QRELS, "no query in common: the run has 'x', the qrels have '1'"),
        ({}, QRELS, "no query in common"),
        ([], QRELS, "the run is empty"),
        (RUN, {}, "the qrels are empty"),
        (RUN, {"1": {}}, "the qrels are empty"),
        (RUN, [], "the qrels are empty"),
        (RUN, {"1": ["a"]}, "'1' has list"),
        (RUN, {"1": {"a": 0.5}}, "judgment 0.5"),
        (RUN, {"1": {"a": None}}, "judgment None"),
        (RUN, {"1": {"a": 10**9}}, "judgment 1000000000"),
        (RUN, {"1": {"a": float("inf")}}, "judgment inf"),
        (RUN, [("1", "a", 1), ("1", "a", 2)], "judged 2 and 1"),
        ({"1": {"a": float("nan")}}, QRELS, "score nan"),
        ({"1": {"a": "high"}}, QRELS, "score 'high'"),
        ({"1": {None: 1.0}}, QRELS, "id None"),
        ({"1": {1.5: 1.0}}, QRELS, "id 1.5"),
        ({"1": {"": 1.0}}, QRELS, "id ''"),
        ({"1": {1: 1.0, "1": 2.0}}, QRELS, "become the same string"),
        ({1: {}, "1": {}}, QRELS, "become the same string"),
        ([("1", "a", 1.0), ("1", "a", 2.0)], QRELS, "'a' occurs twice for query '1'"),
        ([("1", {"a": 1.0}), ("1", {"a": 1.0})], QRELS, "'1' occurs twice"),
        ([("1", "a")], QRELS, "a hit is str"),
        (["1 Q0 a 1 1 t"], QRELS, "an item is str"),
        (7, QRELS, "cannot read a int as a run"),
        (RUN, 7, "cannot read a int as qrels"),
    ],
)
def test_a_run_or_qrels_that_cannot_be_used_says_why(run, qrels, said: str) -> None:
    with pytest.raises(InputError) as error:
        evaluate(run, qrels, "AP")
    assert said in str(error.value)


def test_objects_and_tables_of_the_other_kind_are_told_apart() -> None:
    import ir_measures
    import pandas as pd

    with pytest.raises(InputError, match="ScoredDoc has no relevance; are run and qrels swapped"):
        evaluate(RUN, [ir_measures.ScoredDoc("1", "a", 1.0)])
    with pytest.raises(InputError, match="Qrel has no score; are run and qrels swapped"):
        evaluate([ir_measures.Qrel("1", "a", 1)], QRELS)
    with pytest.raises(InputError, match="no column score; it has query_id, doc_id, relevance"):
        evaluate(pd.DataFrame({"query_id": ["1"], "doc_id": ["a"], "relevance": [1]}), QRELS)


@pytest.mark.parametrize("options", [{"absent": "one"}, {"measures": []}])
def test_options_that_mean_nothing_are_refused(options) -> None:
    with pytest.raises(InputError):
        evaluate(RUN, QRELS, **options)


def test_a_run_of_which_nothing_is_judged_is_remarked_upon(caplog) -> None:
    with caplog.at_level(logging.WARNING, logger="retr"):
        evaluate(RUN, QRELS, "AP")
        assert not caplog.records
        evaluate({"1": {"doc-a": 1.0}}, QRELS, "AP")
    assert "do the run and the qrels match" in caplog.text


def test_more_queries_than_one_batch_holds_keep_their_values() -> None:
    run = {f"q{i}": {"a": 1.0, "b": float(i % 3)} for i in range(1000)}
    qrels = {f"q{i}": {"a": 1} for i in range(1000)}
    result = evaluate(run, qrels, ["RR", "RR@10", "R_cap@1"])
    expected = {f"q{i}": 1.0 if i % 3 == 0 else 0.5 for i in range(1000)}
    assert result.per_query["RR"] == result.per_query["RR@10"] == expected
    assert list(result.values("R_cap@1")) == [float(i % 3 == 0) for i in range(1000)]


def test_an_evaluation_survives_json(tmp_path: Path) -> None:
    write_run(RUN, tmp_path / "mine.run")
    result = evaluate(tmp_path / "mine.run", QRELS, MEASURES, absent="skip", drop_self=True)
    assert result.name == "mine.run"
    again = Evaluation.from_dict(json.loads(json.dumps(result.to_dict())))
    assert again == result
    assert again.queries == result.queries


def test_asking_for_what_was_not_evaluated_says_what_was() -> None:
    result = evaluate(RUN, QRELS, ["AP"])
    assert result["MAP"] == result["AP"]
    with pytest.raises(InputError, match=r"nDCG@10 was not evaluated for run; it has AP"):
        result["nDCG@10"]


def test_the_table_has_a_line_for_each_run() -> None:
    first = evaluate(RUN, QRELS, ["AP", "NumRet"], name="first")
    second = evaluate(RUN, QRELS, ["AP", "R@10"], name="second run")
    lines = table([first, second]).splitlines()
    assert lines[0].split() == ["run", "queries", "AP", "NumRet", "R@10"]
    assert lines[1].split() == ["first", "3", "0.4167", "4"]
    assert lines[2].split() == ["second", "run", "3", "0.4167", "0.5000"]


def test_importing_it_loads_nothing_heavy() -> None:
    code = (
        "import sys, retr.retrieval.evaluation;"
        "heavy = {'numpy', 'scipy', 'pandas', 'ir_measures', 'pyarrow'} & set(sys.modules);"
        "sys.exit(', '.join(heavy) or None)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
