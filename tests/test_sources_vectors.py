"""Vectors of one's own as matrices: .npy files, numpy arrays, torch tensors; and their ids."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from retr.retrieval.sources import SourceOptions, open_source
from retr.retrieval.values.errors import InputError
from retr.retrieval.values.types import Document


def read(source: object, **options: Any) -> list[Document]:
    opened = open_source(source, SourceOptions(**options))
    found = list(opened)
    assert opened.done == len(found)
    assert opened.total in (None, len(found))
    documents = [item for item in found if isinstance(item, Document)]
    assert len(documents) == len(found)
    return documents


def vectors(documents: list[Document]) -> list[Any]:
    for document in documents:
        assert document.vector is not None
        assert document.vector.dtype == np.float32
        assert document.vector.flags.c_contiguous
    return [document.vector.tolist() for document in documents if document.vector is not None]


def npy(path: Path, array: Any) -> Path:
    np.save(path, array)
    return path


@settings(max_examples=50, deadline=None)
@given(
    array=hnp.arrays(
        st.sampled_from(["<f2", "<f4", "<f8", ">f4", "i1", "u1", "<i4"]),
        hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=6),
        elements={"allow_nan": False, "allow_infinity": False, "min_value": 0, "max_value": 100},
    ),
    fortran=st.booleans(),
)
def test_matrices_come_back_as_float32(
    tmp_path_factory: pytest.TempPathFactory, array: Any, fortran: bool
) -> None:
    if fortran:
        array = np.asfortranarray(array)
    path = npy(tmp_path_factory.mktemp("npy") / "a.npy", array)
    for source in (path, array):
        documents = read(source)
        assert [d.id for d in documents] == [str(row) for row in range(len(array))]
        assert vectors(documents) == array.astype(np.float32).tolist()


def test_more_rows_than_a_block(tmp_path: Path) -> None:
    array = np.random.default_rng(0).standard_normal((9000, 256)).astype(np.float16)
    documents = read(npy(tmp_path / "a.npy", array))
    assert np.array_equal([d.vector for d in documents], array.astype(np.float32))


def test_real_vectors(data: Path) -> None:
    path = data / "vectors" / "minilm55k.queries.f16.npy"
    documents = read(path)
    assert np.array_equal([d.vector for d in documents], np.load(path).astype(np.float32))


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros(3), r"has the shape \(3,\); give a 2-dimensional one, a vector per row"),
        (np.zeros((2, 2, 2)), r"has the shape \(2, 2, 2\)"),
        (np.zeros((3, 0)), r"has the shape \(3, 0\)"),
        (np.zeros(()), r"has the shape \(\)"),
        (np.zeros((2, 2), complex), "holds complex128; vectors are integers or floats"),
        (np.zeros((2, 2), bool), "holds bool"),
        (np.full((2, 2), "x"), "holds <U1"),
    ],
)
def test_what_is_no_matrix_of_numbers_is_refused(tmp_path: Path, array: Any, said: str) -> None:
    with pytest.raises(InputError, match=f"^the numpy array {said}"):
        read(array)
    with pytest.raises(InputError, match=f"^a.npy {said}"):
        read(npy(tmp_path / "a.npy", array))


def test_values_that_are_not_finite_are_named(tmp_path: Path) -> None:
    array = np.ones((5000, 512))
    array[4321, 7] = np.nan
    ids = [f"d{row}" for row in range(5000)]
    with pytest.raises(InputError) as raised:
        read(npy(tmp_path / "a.npy", array), ids=ids)
    assert str(raised.value) == (
        "a.npy, row 4321 (id 'd4321'): the vector holds nan at dimension 7; "
        "vectors need finite numbers (as float32)"
    )
    with pytest.raises(InputError, match=r"row 0 \(id '0'\): the vector holds inf at dimension 1"):
        read(np.array([[1.0, 1e300]]))


def test_zero_vectors_and_no_vectors_are_let_through() -> None:
    assert vectors(read(np.zeros((2, 2)))) == [[0.0, 0.0]] * 2
    assert read(np.zeros((0, 2))) == []


def test_broken_npy_files_are_refused(tmp_path: Path) -> None:
    path = npy(tmp_path / "a.npy", np.zeros((100, 10)))
    whole = path.read_bytes()
    npy(tmp_path / "o.npy", np.array([[1, {}]], dtype=object))
    objects = (tmp_path / "o.npy").read_bytes()
    np.savez(tmp_path / "z.npz", a=np.zeros((2, 2)))
    archive = (tmp_path / "z.npz").read_bytes()
    for bad in (
        b"",
        b"no array",
        whole[:60],
        whole[:-8],
        objects,
        archive,
        whole[:10] + b"(" * 118,
    ):
        path.write_bytes(bad)
        with pytest.raises(
            InputError, match=r"^a.npy:? (cannot be read as a .npy file|is an archive)"
        ):
            read(path)


def test_ids_may_be_any_sequence(tmp_path: Path) -> None:
    array = np.eye(3)
    for ids in (
        ["a", "b", "c"], ("a", "b", "c"), np.array(["a", "b", "c"]), pd.Series(list("abc")),
        pl.Series(["a", "b", "c"]), pa.array(list("abc")), pa.chunked_array([["a"], ["b", "c"]]),
    ):  # fmt: skip
        documents = read(array, ids=ids)
        assert [d.id for d in documents] == ["a", "b", "c"]
        assert all(type(d.id) is str for d in documents)
    assert [d.id for d in read(array, ids=np.array([5, 6, 7]))] == ["5", "6", "7"]
    assert [d.id for d in read(array, ids=range(3))] == ["0", "1", "2"]
    for bad, said in [
        (["a"], "the numpy array has 3 vectors, but there are 1 ids"),
        (["a", "b", 1.5], r"ids\[2\] is 1.5 \(float\); an id is"),
        (["a", "", "c"], r"ids\[1\] is empty"),
        (np.array([1.0, 2.0, 3.0]), r"ids\[0\] is .*; an id is"),
        (iter("abc"), "give a sequence of ids, or a .txt, .jsonl or .npy file"),
        ({"a": 1}, "give a sequence of ids"),
        (3, "give a sequence of ids"),
    ]:
        with pytest.raises(InputError, match=said):
            read(array, ids=bad)


def test_ids_may_lie_in_a_file(tmp_path: Path) -> None:
    path = npy(tmp_path / "a.npy", np.eye(3))
    (tmp_path / "ids.txt").write_bytes("é\r\nb\nc d".encode())
    (tmp_path / "ids.jsonl").write_text('"é"\n\n{"id": "b", "key": 1}\n{"id": "c d", "key": 2}')
    npy(tmp_path / "ids.npy", np.array(["é", "b", "c d"]))
    for name in ("ids.txt", "ids.jsonl", "ids.npy"):
        assert [d.id for d in read(path, ids=tmp_path / name)] == ["é", "b", "c d"]
        assert [d.id for d in read(np.eye(3), ids=str(tmp_path / name))] == ["é", "b", "c d"]
    (tmp_path / "ids.jsonl").write_text('{"key": 1}\n{"key": 2}\n{"key": 3}\n')
    assert [d.id for d in read(path, ids=tmp_path / "ids.jsonl", id="key")] == ["1", "2", "3"]
    for name, content, said in [
        ("x.jsonl", "1\n2\n{}\n", "x.jsonl, line 3: has no _id or id or doc_id"),
        ("x.jsonl", "1\n2\n{\n", "x.jsonl, line 3: not JSON"),
        ("x.jsonl", "1\n2\n3.5\n", "x.jsonl, line 3: the id is 3.5"),
        ("x.txt", "1\n\n3\n", "x.txt, line 2 is empty"),
        ("x.txt", "1\n2\n", "a.npy has 3 vectors, but there are 2 ids"),
        ("x.csv", "1\n", "x.csv: give ids in a .txt, .jsonl or .npy file"),
        ("x.npy", "1\n", "x.npy: cannot be read as a .npy file"),
    ]:
        (tmp_path / name).write_text(content)
        with pytest.raises(InputError, match=said):
            read(path, ids=tmp_path / name)
    with pytest.raises(InputError, match=r"no such file or folder: .*nowhere.txt"):
        read(path, ids=tmp_path / "nowhere.txt")
    with pytest.raises(InputError, match=r"x.npy has the shape \(3, 3\); ids are 1-dimensional"):
        read(path, ids=npy(tmp_path / "x.npy", np.eye(3)))


@pytest.mark.parametrize("option", ["text", "title", "vector", "include", "exclude"])
def test_what_has_no_meaning_for_matrices_is_refused(tmp_path: Path, option: str) -> None:
    for source in (np.eye(2), npy(tmp_path / "a.npy", np.eye(2))):
        with pytest.raises(InputError, match=f"cannot be read with {option}="):
            read(source, **{option: "x"})


def test_tensors_are_matrices() -> None:
    torch = pytest.importorskip("torch")
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    for kind in (torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int8):
        tensor = torch.tensor(array).to(kind)
        assert vectors(read(tensor, ids=["a", "b"])) == array.tolist()
    assert vectors(read(torch.tensor(array, requires_grad=True))) == array.tolist()
    assert vectors(read(torch.tensor(array.T.copy()).T)) == array.tolist()
    for bad, said in [
        (torch.zeros(3), r"the torch tensor has the shape \(3,\)"),
        (torch.zeros((2, 2), dtype=torch.complex64), "the torch tensor is torch.complex64"),
        (torch.zeros((2, 2), dtype=torch.bool), "the torch tensor is torch.bool"),
        (torch.eye(2).to_sparse(), "torch.sparse_coo; give dense real numbers"),
        (torch.tensor([[1.0, float("nan")]]), r"row 0 \(id '0'\): the vector holds nan"),
    ]:
        with pytest.raises(InputError, match=said):
            read(bad)
