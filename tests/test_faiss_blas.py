"""FAISS's BLAS takes the kernels that the processor can run, and nothing else hears of it."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from retr.indexes.faiss import core_type_of

INTEL = "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel\t\t: 207\nflags\t\t: fpu {}\n"
AVX512 = "avx2 fma avx512f avx512dq avx512cd avx512bw avx512vl"
CHECK = """
import json, os, sys, numpy
before = os.environ.get("OPENBLAS_CORETYPE")
from retr.indexes.faiss import load_faiss
load_faiss()
from threadpoolctl import threadpool_info
print(json.dumps({
    "same": os.environ.get("OPENBLAS_CORETYPE") == before,
    "cores": {
        info["filepath"]: info.get("architecture")
        for info in threadpool_info()
        if info["internal_api"] == "openblas"
    },
}))
"""


@pytest.mark.parametrize(
    ("text", "core"),
    [
        (INTEL.format(AVX512), "SkylakeX"),
        (INTEL.format("avx2 fma avx512f"), "Haswell"),
        (INTEL.format("avx2 fma"), "Haswell"),
        (INTEL.format("avx2"), None),
        (INTEL.format("sse4_2"), None),
        (INTEL.format(AVX512).replace("GenuineIntel", "AuthenticAMD"), "Zen"),
        (INTEL.format(AVX512).replace("GenuineIntel", "CentaurHauls"), None),
        # Cores of two kinds: the first is taken, as OpenBLAS asks one.
        (INTEL.format("avx2 fma") + "\n" + INTEL.format(AVX512), "Haswell"),
        ("Features\t: fp asimd\n", None),
        ("", None),
        ("nothing of the kind\x00", None),
    ],
)
def test_kernels_are_of_what_the_processor_says_it_can(text, core):
    assert core_type_of(text) == core


def loaded(**environment: str) -> dict:
    clean = {name: value for name, value in os.environ.items() if name != "OPENBLAS_CORETYPE"}
    done = subprocess.run(
        [sys.executable, "-c", CHECK],
        env={**clean, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_it_takes_them_and_the_environment_is_as_it_was():
    pytest.importorskip("faiss")
    found = loaded()
    assert found["same"]
    assert "Prescott" not in found["cores"].values() or core_now() is None


def test_what_the_user_has_set_stands():
    pytest.importorskip("faiss")
    assert core_now() is None or set(loaded(OPENBLAS_CORETYPE="Nehalem")["cores"].values()) <= {
        "Nehalem"
    }


def core_now() -> str | None:
    try:
        with open("/proc/cpuinfo") as file:  # noqa: PTH123
            return core_type_of(file.read())
    except OSError:
        return None


def test_products_are_those_of_numpy():
    faiss = pytest.importorskip("faiss")
    random = np.random.default_rng(0)
    matrix = random.standard_normal((48, 96)).astype(np.float32)
    vectors = random.standard_normal((64, 96)).astype(np.float32)
    linear = faiss.LinearTransform(96, 48, False)
    faiss.copy_array_to_vector(matrix.ravel(), linear.A)
    linear.is_trained = True
    assert np.allclose(linear.apply(vectors), vectors @ matrix.T, atol=1e-4)
