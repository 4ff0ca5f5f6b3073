"""What a figure was made with: commit, versions, machine, settings of the process.

Nothing is imported to find it out, so asking costs little and changes nothing.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ..retrieval.values.version import __version__

_PACKAGES = (
    "numpy",
    "pyarrow",
    "faiss-cpu",
    "faiss-gpu",
    "torch",
    "torchvision",
    "open-clip-torch",
    "pillow",
    "sentence-transformers",
    "transformers",
    "tokenizers",
    "duckdb",
    "PyStemmer",
    "ir-measures",
    "pytrec-eval-terrier",
    "scipy",
    "bm25s",
    "numba",
    "tantivy",
    "hnswlib",
    "lancedb",
    "qdrant-client",
    "scann",
    "usearch",
)
# What changes how many threads compute, and on what.
_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
_ROOT = Path(__file__).resolve().parents[1]


def describe() -> dict[str, Any]:
    """Return JSON values: time, command, commit, versions of libraries, machine, threads.

    "commit" is that of the code, and "dirty" whether the code has changes that are not committed;
    both are None if the code is not in a checkout of its repository. "threads" is how many
    OpenMP starts, None if the process does not say and "cores_usable" decides.
    """
    commit, dirty = _commit()
    threads = os.environ.get("OMP_NUM_THREADS", "")
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "retr": __version__,
        "commit": commit,
        "dirty": dirty,
        "python": platform.python_version(),
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
        "system": f"{platform.system()} {platform.machine()}, {' '.join(platform.libc_ver())}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "cores_usable": _usable_cores(),
        "threads": int(threads) if threads.isdigit() else None,
        "memory_bytes": _memory(),
        "gpu": gpu(),
        "variables": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
    }


def gpu() -> str | None:
    """Return the GPU's name if torch is loaded already, for then the encoder may use it."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    return str(torch.cuda.get_device_name(0))


def items(environment: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what is worth a reader's while of what `describe` has returned, now or earlier."""
    yield "retr", str(environment["retr"])
    if commit := environment.get("commit"):
        changed = ", with changes that are not committed" if environment.get("dirty") else ""
        yield "commit", f"{commit}{changed}"
    elif recorded := environment.get("recorded_in"):
        yield "commit", f"not noted; the result was recorded in {recorded}"
    yield "Python", str(environment["python"])
    yield from ((str(n), str(v)) for n, v in environment["packages"].items())
    yield "system", str(environment["system"])
    yield "processor", f"{environment['processor']}, {environment['cores_usable']} cores usable"
    if environment["memory_bytes"]:
        yield "memory", f"{environment['memory_bytes'] / 2**30:.0f} GiB"
    yield "GPU", str(environment["gpu"] or "none")
    yield from ((str(n), str(v)) for n, v in environment["variables"].items())
    yield "time", str(environment["time"])


def line(environment: Mapping[str, Any]) -> str:
    """Return in one sentence where and when a result was measured, for below its tables."""
    known = dict(items(environment))
    commit = known.get("commit", "unknown")
    return (
        f"Measured {known['time'][:10]} on {known['processor']}"
        f"{', ' + known['memory'] if 'memory' in known else ''}"
        f"{', ' + known['GPU'] if known['GPU'] != 'none' else ''}; "
        f"retr {known['retr']}, commit {commit}; Python {known['Python']}."
    )


def _commit() -> tuple[str | None, bool | None]:
    top = _git("rev-parse", "--show-toplevel")
    # What is installed may lie in a folder of some other repository.
    if top is None or Path(top).resolve() != _ROOT:
        return None, None
    # Results that were just written are no change of what is measured.
    changes = _git("status", "--porcelain", "--", ".", ":!benchmarks/results")
    return _git("rev-parse", "HEAD"), None if changes is None else bool(changes)


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(_ROOT), *arguments], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def _usable_cores() -> int | None:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None
