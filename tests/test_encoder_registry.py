"""Names to encoders, and the two families that need no model: `functions` and `vectors`."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from hypothesis.extra import numpy as arrays

from retr.retrieval.encoders import EncoderOptions, families, from_functions, resolve
from retr.retrieval.encoders.vectors import VectorsEncoder
from retr.retrieval.values.errors import InputError, RetrError


def ones(texts: list[str]) -> Any:
    return [[1.0, float(len(text))] for text in texts]


# ---------------------------------------------------------------- names


def run_python(code: str) -> str:
    """Run `code` in a fresh interpreter that imports retr as this one does; return its output."""
    import retr

    parent = str(Path(next(iter(retr.__path__))).parent)
    path = [parent, *(entry for entry in sys.path if entry)]
    program = f"import sys\nsys.path[:0] = {path!r}\n{code}"
    return subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout


def test_finding_and_listing_families_imports_nothing_heavy() -> None:
    code = """
from retr.retrieval.encoders import families, resolve
print(families())
try:
    resolve("no-such-encoder")
except ValueError as error:
    print(error)
print([name for name in ("numpy", "torch", "sentence_transformers", "tokenizers", "pyarrow")
       if name in sys.modules])
"""
    listed, said, heavy = run_python(code).splitlines()
    assert listed == str(families())
    assert "no-such-encoder" in said
    assert heavy == "[]"


def test_a_family_that_needs_no_torch_never_imports_it() -> None:
    code = """
from retr.retrieval.encoders import resolve
resolve("static").encode_queries(["heat transfer"])
resolve("vectors:8")
print([name for name in ("torch", "sentence_transformers", "transformers") if name in sys.modules])
"""
    assert run_python(code).strip() == "[]"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("sentence-transformers/all-MiniLM-L6-v2", "'st:sentence-transformers/all-MiniLM-L6-v2'"),
        ("BAAI/bge-small-en", "write 'st:BAAI/bge-small-en'"),
        ("BAAI/bge-small-en@128", "write 'st:BAAI/bge-small-en@128'"),
        ("all-MiniLM-L6-v2", "'st:all-MiniLM-L6-v2'"),
        ("statc", "did you mean 'static'"),
        ("Static:1", "did you mean 'static:1'"),
        ("static1@64", "did you mean 'static@64'"),
        ("vector:12", "did you mean 'vectors:12'"),
        ("openai:text-embedding-3-small", "known: clip, functions, splade, st"),
        ("", "the encoder's name is ''"),
        ("  ", "the encoder's name is '  '"),
        ("../../etc/passwd", "there is no encoder"),
        ("os", "there is no encoder"),
        ("base", "there is no encoder"),
        ("registry", "there is no encoder"),
        ("_checks", "there is no encoder"),
        ("a\0b", "there is no encoder"),
        ("~nobody-of-this-name/model/x", "there is no encoder"),
        ("x" * 5000, "there is no encoder"),
    ],
)
def test_a_name_of_no_family_is_answered_with_what_was_meant(name: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        resolve(name)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_with_a_model_is_answered_with_the_st_form(tmp_path: Path) -> None:
    model = tmp_path / "some" / "model"
    model.mkdir(parents=True)
    (model / "modules.json").write_text("[]")
    with pytest.raises(InputError, match="is a sentence-transformers model: write 'st:/"):
        resolve(str(model))


@settings(max_examples=25, deadline=None)  # each reads the metadata of every package
@given(some.text(max_size=30))
def test_no_name_is_a_crash(name: str) -> None:
    # Never one of the real families with a model behind it: only what the registry itself says.
    if name.split(":")[0].split("@")[0] in families():
        return
    with pytest.raises(InputError):
        resolve(name)


def test_what_is_no_name_is_refused() -> None:
    for wrong in (None, 7, ones, VectorsEncoder):
        with pytest.raises(InputError, match="from_functions"):
            resolve(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (EncoderOptions(metric="manhattan"), "unknown metric 'manhattan'; use cosine, ip, l2"),
        (EncoderOptions(metric=""), "metric ''"),
        (EncoderOptions(max_length=0), "max length of 0"),
        (EncoderOptions(max_length=-5), "max length of -5"),
    ],
)
@pytest.mark.parametrize("name", ["static", "st:x", "vectors:3"])
def test_options_wrong_everywhere_are_refused_before_anything_is_loaded(
    name: str, options: EncoderOptions, said: str
) -> None:
    with pytest.raises(InputError, match=name) as caught:
        resolve(name, options)
    assert said in str(caught.value)


def test_an_encoder_is_taken_as_it_is_and_without_options() -> None:
    encoder = from_functions("mine", ones)
    assert resolve(encoder) is encoder
    with pytest.raises(InputError, match="'functions:mine' already exists, so max_length"):
        resolve(encoder, EncoderOptions(max_length=3))
    with pytest.raises(InputError, match="device"):
        resolve(encoder, EncoderOptions(device="cpu"))


# ---------------------------------------------------------------- entry points


@pytest.fixture
def package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str, str], None]]:
    """Return what installs a package `plugin` with an entry point and a module's source."""

    def install(entry_point: str, source: str) -> None:
        (tmp_path / "retr_test_plugin.py").write_text(source)
        info = tmp_path / "retr_test_plugin-2.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            "Metadata-Version: 2.1\nName: retr-test-plugin\nVersion: 2.0\n"
        )
        (info / "entry_points.txt").write_text(f"[retr.encoders]\n{entry_point}\n")
        monkeypatch.syspath_prepend(str(tmp_path))

    yield install
    sys.modules.pop("retr_test_plugin", None)


def test_an_entry_point_adds_a_family(package: Callable[[str, str], None]) -> None:
    package(
        "plug = retr_test_plugin:Plug",
        "from retr.retrieval.encoders.vectors import VectorsEncoder\n"
        "class Plug(VectorsEncoder):\n"
        "    family = 'plug'\n"
        "    @classmethod\n"
        "    def open(cls, name, options):\n"
        "        return cls(int(name.partition(':')[2]), options)\n",
    )
    assert "plug" in families()
    encoder = resolve("plug:5")
    assert (type(encoder).__name__, encoder.space.family, encoder.space.dim) == ("Plug", "plug", 5)


def test_an_entry_point_does_not_take_a_family_of_ours(package: Callable[[str, str], None]) -> None:
    package("vectors = retr_test_plugin:Plug", "raise SystemExit('imported')")
    assert type(resolve("vectors:3")) is VectorsEncoder


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def Plug(): pass", "is not an Encoder class"),
        ("class Plug: family = 'plug'", "is not an Encoder class"),
        ("from retr.retrieval.encoders.vectors import VectorsEncoder as Plug", "'vectors'"),
        ("from retr.retrieval.encoders.base import Encoder as Plug", "family None"),
    ],
)
def test_an_entry_point_that_breaks_the_rule_names_its_package(
    package: Callable[[str, str], None], source: str, said: str
) -> None:
    package("plug = retr_test_plugin:Plug", source)
    with pytest.raises(InputError, match="package retr-test-plugin") as caught:
        resolve("plug")
    assert said in str(caught.value)


def test_a_defect_inside_a_package_keeps_its_traceback(package: Callable[[str, str], None]) -> None:
    package("plug = retr_test_plugin:Plug", "import a_module_that_is_not_there")
    with pytest.raises(ModuleNotFoundError, match="a_module_that_is_not_there") as caught:
        resolve("plug")
    assert not isinstance(caught.value, RetrError)


# ---------------------------------------------------------------- functions


def test_functions_make_an_encoder() -> None:
    encoder = from_functions("mine v2", ones, metric="ip")
    assert encoder.name == "functions:mine v2"
    assert encoder.space.revision == "mine v2"
    assert (encoder.space.dim, encoder.space.metric, encoder.space.normalised) == (2, "ip", False)
    np.testing.assert_array_equal(encoder.encode_documents(["ab", "abc"]), [[1, 2], [1, 3]])
    np.testing.assert_array_equal(encoder.encode_queries(["ab"]), [[1, 2]])


def test_queries_have_a_function_of_their_own() -> None:
    encoder = from_functions("mine", ones, lambda texts: [[0.0, 1.0]] * len(texts), metric="l2")
    np.testing.assert_array_equal(encoder.encode_queries(["ab", "c"]), [[0, 1], [0, 1]])
    np.testing.assert_array_equal(encoder.encode_documents(["ab"]), [[1, 2]])


def test_another_name_is_another_space() -> None:
    assert from_functions("a", ones).space == from_functions("a", ones).space
    assert from_functions("a", ones).space != from_functions("b", ones).space


def test_functions_are_called_with_lists_and_never_with_an_empty_one() -> None:
    calls: list[list[str]] = []

    def spy(texts: list[str]) -> Any:
        calls.append(texts)
        return ones(texts)

    encoder = from_functions("spy", spy, dim=2)
    assert calls == []
    encoder.encode_documents([])
    assert calls == []
    encoder.encode_documents(("a", "b"))
    assert calls == [["a", "b"]]


@given(
    arrays.arrays(
        some.sampled_from([np.float16, np.float32, np.float64, np.int32, np.uint8]),
        arrays.array_shapes(min_dims=2, max_dims=2, max_side=6),
    )
)
def test_whatever_real_numbers_come_back_become_unit_rows(values: Any) -> None:
    kept = values.copy()
    texts = ["text"] * len(values)
    encoder = from_functions("any", lambda texts: values, dim=values.shape[1])
    if not np.isfinite(values.astype(np.float64)).all():
        with pytest.raises(InputError, match=r"(nan|inf) in row"):
            encoder.encode_documents(texts)
    else:
        vectors = encoder.encode_documents(texts)
        assert vectors.dtype == np.float32
        exact = values.astype(np.float64)
        largest = np.abs(exact).max(axis=1, keepdims=True)
        scaled = exact / np.where(largest > 0, largest, 1)  # squares neither vanish nor overflow
        norms = np.linalg.norm(scaled, axis=1, keepdims=True)
        np.testing.assert_allclose(vectors, scaled / np.where(norms > 0, norms, 1), atol=1e-6)
    np.testing.assert_array_equal(values, kept)


def test_torch_tensors_are_taken() -> None:
    torch = pytest.importorskip("torch")

    def model(texts: list[str]) -> Any:
        return torch.ones(len(texts), 3, dtype=torch.bfloat16, requires_grad=True) * 2

    encoder = from_functions("torch", model, metric="ip")
    np.testing.assert_array_equal(encoder.encode_documents(["a", "b"]), np.full((2, 3), 2.0))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ([[1.0, 2.0, 3.0]], "the shape [1, 3] for 2 texts; return [2, 2]"),
        ([[1.0], [2.0]], "the shape [2, 1] for 2 texts; return [2, 2]"),
        ([[1.0, 2.0]] * 3, "the shape [3, 2] for 2 texts"),
        ([1.0, 2.0], "the shape [2] for 2 texts"),
        ([[[1.0, 2.0]]] * 2, "the shape [2, 1, 2] for 2 texts"),
        ([[1.0, 2.0], [1.0]], "rows of different lengths"),
        ([[1.0, 2.0], [float("nan"), 1.0]], "nan in row 1, for the text 'second'"),
        ([[float("-inf"), 2.0], [1.0, 1.0]], "-inf in row 0, for the text 'first'"),
        ([["a", "b"], ["c", "d"]], "list with elements of type <U1"),
        ([[1j, 2.0], [1.0, 1.0]], "elements of type complex128"),
        ([[True, False], [True, True]], "elements of type bool"),
        (None, "NoneType with elements of type object"),
        ([None, None], "elements of type object"),
    ],
)
@pytest.mark.parametrize("side", ["documents", "queries"])
def test_a_wrong_answer_names_function_and_value(side: str, answer: Any, said: str) -> None:
    encoder = from_functions("mine", lambda texts: answer, dim=2)
    with pytest.raises(InputError) as caught:
        getattr(encoder, f"encode_{side}")(["first", "second"])
    assert str(caught.value).startswith(f"from_functions('mine'): encode_{side} returned ")
    assert said in str(caught.value)


def test_a_wrong_answer_is_found_when_the_dimension_is_asked_for() -> None:
    with pytest.raises(InputError, match=r"the shape \[1, 0\] for 1 texts; return \[1, dim\]"):
        from_functions("mine", lambda texts: [[]])


def test_numbers_too_large_for_float32_are_refused_where_they_are_kept() -> None:
    def large(texts: list[str]) -> Any:
        return [[1e300, 0.0]] * len(texts)

    with pytest.raises(InputError, match="too large for float32"):
        from_functions("mine", large, metric="ip").encode_documents(["a"])
    np.testing.assert_array_equal(from_functions("mine", large).encode_documents(["a"]), [[1, 0]])


def test_an_error_of_the_function_is_the_users_own() -> None:
    def broken(texts: list[str]) -> Any:
        raise KeyError("model")

    with pytest.raises(KeyError, match="model"):
        from_functions("mine", broken, dim=2).encode_documents(["a"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"name": ""}, "the name is ''"),
        ({"name": "  "}, "the name is '  '"),
        ({"name": None}, "the name is None"),
        ({"encode_documents": 3}, "encode_documents is a int, not a function"),
        ({"encode_queries": "x"}, "encode_queries is a str, not a function"),
        ({"dim": 0}, "dim is 0"),
        ({"metric": "manhattan"}, "unknown metric 'manhattan'"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        from_functions(**{"name": "mine", "encode_documents": ones, **arguments})
    assert said in str(caught.value)


def test_items_that_are_no_texts_are_refused() -> None:
    encoder = from_functions("mine", ones)
    with pytest.raises(InputError, match="a list of texts, not one str"):
        encoder.encode_documents("abc")
    with pytest.raises(InputError, match="item 1 is of type NoneType"):
        encoder.encode_queries(["a", None])  # type: ignore[list-item]


def test_the_functions_are_called_by_one_thread_at_a_time() -> None:
    inside = threading.Semaphore(1)
    overlaps: list[str] = []
    start = threading.Barrier(4)

    def guarded(texts: list[str]) -> Any:
        if not inside.acquire(blocking=False):
            overlaps.append(texts[0])
            return ones(texts)
        try:
            for _ in range(2000):
                sum(range(50))
            return ones(texts)
        finally:
            inside.release()

    encoder = from_functions("guarded", guarded, dim=2)

    def work() -> None:
        start.wait()
        for n in range(20):
            encoder.encode_queries([str(n)])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert overlaps == []


# ---------------------------------------------------------------- vectors


def test_own_vectors_have_a_space_from_the_data_or_the_name() -> None:
    made = VectorsEncoder.for_data(384)
    assert made.name == "vectors:384"
    assert (made.space.dim, made.space.metric, made.space.normalised) == (384, "cosine", True)
    assert resolve("vectors:384").space == made.space

    other = VectorsEncoder.for_data(384, "l2")
    assert (other.space.metric, other.space.normalised) == ("l2", False)
    assert other.space != made.space
    assert resolve(other.name, EncoderOptions(**other.options.to_json())).space == other.space


@pytest.mark.parametrize(
    "name",
    ["vectors", "vectors:", "vectors:x", "vectors:0", "vectors:-3", "vectors:3@2", "vectors@3"],
)
def test_own_vectors_need_their_dimension_in_the_name(name: str) -> None:
    with pytest.raises(InputError, match="write vectors:DIM"):
        resolve(name)


@pytest.mark.parametrize(
    "options",
    [
        EncoderOptions(query_prompt="q"),
        EncoderOptions(document_prompt="d"),
        EncoderOptions(max_length=3),
        EncoderOptions(revision="main"),
    ],
)
def test_own_vectors_take_no_option_about_text(options: EncoderOptions) -> None:
    (option,) = options.to_json()
    with pytest.raises(InputError, match=f"so {option} does not apply"):
        resolve("vectors:3", options)


def test_own_vectors_need_a_real_dimension_and_metric() -> None:
    with pytest.raises(InputError, match="0 dimensions"):
        VectorsEncoder.for_data(0)
    with pytest.raises(InputError, match="metric 'dot'"):
        VectorsEncoder.for_data(3, "dot")
