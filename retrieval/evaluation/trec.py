"""Reads and writes TREC run and qrels files, and defines the order in which a run is evaluated.

A run has six columns, `query Q0 document rank score tag`; qrels have four, `query iteration
document relevance`, or BEIR's three, tab-separated under a header. ASCII white space separates
columns, as in trec_eval. Files may be gzipped, whatever their name.
"""

from __future__ import annotations

import gzip
import logging
import math
import operator
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, TypeGuard

from ..values.errors import InputError
from ..values.files import whole

Run: TypeAlias = dict[str, dict[str, float]]  # query id -> document id -> score
Qrels: TypeAlias = dict[str, dict[str, int]]  # query id -> document id -> relevance

# For every query, trec_eval keeps a counter for every grade up to the highest: with 100,000 it
# takes seconds, and above ten million it practically never ends.
MAX_GRADE = 10_000

_HEADERS = frozenset({b"score", b"relevance", b"label"})
_ASCII_SPACE = re.compile(r"[ \t\n\r\v\f]")
_log = logging.getLogger(__name__)


def ranked(scores: Mapping[str, float]) -> list[str]:
    """Return the documents in the order in which trec_eval ranks them, best first.

    They are sorted by descending score in single precision, and among equal scores by descending
    document id, compared by UTF-8 bytes (trec_eval: `TEXT_RESULTS.sim` is a float;
    `comp_sim_docno` in form_res_rels.c). So scores that differ only in double precision are equal.
    """
    import numpy as np

    documents = list(scores)
    with np.errstate(over="ignore"):
        values = np.fromiter(scores.values(), np.float64, len(documents)).astype(np.float32)
    if len(np.unique(values)) == len(values):
        return [documents[i] for i in np.argsort(-values)]
    # Code points sort as UTF-8 bytes do, so comparing strings compares bytes.
    by_id = sorted(range(len(documents)), key=documents.__getitem__, reverse=True)
    order = np.argsort(-values[by_id], kind="stable")
    return [documents[by_id[i]] for i in order]


def read_run(path: str | os.PathLike[str]) -> Run:
    """Return the run in a TREC file; the rank and tag columns are ignored.

    Blank lines and lines that start with `#` are skipped, as in trec_eval.

    Raises:
        InputError: the file is missing, empty or truncated; a line has the wrong number of
            columns, a score that is not a finite number, or a document that the query already
            has. The message names the file and the line.
    """
    run: Run = {}
    scores: dict[str, float] = {}
    query = None
    last = math.inf
    rises = falls = 0
    for number, line in _lines(path, "run"):
        columns = line.split()
        if len(columns) != 6:
            if not columns or columns[0].startswith(b"#"):
                continue
            raise _wrong_run_columns(path, number, columns)
        if columns[0] != query:
            if columns[0].startswith(b"#"):
                continue
            query = columns[0]
            scores = run.setdefault(_text(query, path, number), {})
            last = math.inf
        document = _text(columns[2], path, number)
        score = _score(columns[4], path, number)
        if document in scores:
            raise InputError(
                f"{path}:{number}: document {document!r} is listed twice for query "
                f"{_text(query, path, number)!r}; keep one line per document of a query"
            )
        scores[document] = score
        if score > last:
            rises += 1
        elif score < last < math.inf:
            falls += 1
        last = score
    if not run:
        raise InputError(f"{path}: the run is empty")
    if rises > 10 * (falls + 1):
        _log.warning(
            "%s: scores rise from line to line, but a run is ranked by score, highest first; "
            "if these are distances, negate them",
            path,
        )
    return run


def read_qrels(path: str | os.PathLike[str]) -> Qrels:
    """Return the judgments in a TREC qrels file or a BEIR tsv.

    A repeated judgment counts once.

    Raises:
        InputError: the file is missing, empty or truncated; a line has the wrong number of
            columns, a judgment that is not a whole number from -10,000 to 10,000, or a document
            with a different judgment before. The message names the file and the line.
    """
    qrels: Qrels = {}
    width, separator = 0, None
    for number, line in _lines(path, "qrels"):
        columns = line.rstrip(b"\r\n").split(separator)
        if not line.strip() or columns[0].startswith(b"#"):
            continue
        if not width:
            if len(columns) == 3 and b"\t" in line:
                separator = b"\t"  # BEIR's ids may contain spaces
                columns = line.rstrip(b"\r\n").split(separator)
            width = len(columns)
            if width == 3 and columns[2].strip().lower() in _HEADERS:
                continue
        if len(columns) != width or width not in (3, 4):
            raise _wrong_qrels_columns(path, number, columns, width)
        query = _text(columns[0].strip(), path, number)
        document = _text(columns[width - 2].strip(), path, number)
        relevance = _judgment(columns[width - 1], path, number)
        known = qrels.setdefault(query, {}).setdefault(document, relevance)
        if known != relevance:
            raise InputError(
                f"{path}:{number}: document {document!r} is judged {relevance} for query "
                f"{query!r}, and {known} on an earlier line; keep one of them"
            )
    if not qrels:
        raise InputError(f"{path}: the qrels are empty")
    return qrels


def write_run(
    run: Mapping[str, Any] | Iterable[tuple[str, Any]],
    path: str | os.PathLike[str],
    *,
    tag: str = "retr",
) -> int:
    """Write a TREC run, gzipped if the name ends in `.gz`; return the number of its lines.

    run: query id -> hits, or an iterable of such pairs, which are written one by one. Hits are a
         dict (document id -> score) or `Results`, see `scores_of`.

    The lines of a query are in the order of `ranked`, ranks count from 1, and scores read back as
    the same double. The file is written atomically.

    Raises:
        InputError: an id or the tag is empty or contains white space, a score is not finite, or a
            query occurs twice.
    """
    path = Path(path)
    _column(tag, "tag", path)
    pairs = run.items() if isinstance(run, Mapping) else run
    seen: set[str] = set()
    lines = 0
    with _opened_whole(path) as file:
        for query, hits in pairs:
            _column(query, "query id", path)
            if query in seen:
                raise InputError(f"{path}: query {query!r} occurs twice in the run to write")
            seen.add(query)
            scores = scores_of(query, hits)
            for rank, document in enumerate(ranked(scores), start=1):
                _column(document, "document id", path)
                file.write(f"{query} Q0 {document} {rank} {scores[document]!r} {tag}\n".encode())
                lines += 1
    return lines


def write_qrels(qrels: Mapping[str, Mapping[str, int]], path: str | os.PathLike[str]) -> int:
    """Write TREC qrels, gzipped if the name ends in `.gz`; return the number of lines.

    Raises:
        InputError: an id is empty or contains white space.
    """
    path = Path(path)
    lines = 0
    with _opened_whole(path) as file:
        for query, judgments in qrels.items():
            _column(query, "query id", path)
            for document, relevance in judgments.items():
                _column(document, "document id", path)
                file.write(f"{query} 0 {document} {relevance:d}\n".encode())
                lines += 1
    return lines


def scores_of(query: str, hits: Any) -> dict[str, float]:
    """Return document id -> score for the hits of one query.

    hits: such a dict, or a sequence of `Hit` (such as `Results`). A document with several
          passages among the hits counts once, with its best score.

    Raises:
        InputError: a score is not a finite number, or an id is neither a string nor an integer.
    """
    if isinstance(hits, Mapping):
        if _plain(hits):
            return hits
        out = {identifier(document, "document"): score for document, score in hits.items()}
        if len(out) != len(hits):
            raise InputError(f"query {query!r}: two document ids become the same string")
    else:
        out = {}
        for hit in hits:
            if not (hasattr(hit, "id") and hasattr(hit, "score")):
                raise InputError(
                    f"query {query!r}: a hit is {type(hit).__name__}; "
                    "give a dict of scores by document id, or Results"
                )
            document = identifier(hit.id, "document")
            out[document] = max(hit.score, out.get(document, hit.score))
    for document, score in out.items():
        try:
            out[document] = float(score)
        except (TypeError, ValueError):
            out[document] = math.nan
        if not math.isfinite(out[document]):
            raise InputError(
                f"query {query!r}, document {document!r}: score {score!r} is not a finite number"
            )
    return out


def grade(value: Any) -> int:
    """Return a judgment as an int.

    Raises:
        ValueError: it is not a whole number from -10,000 to 10,000.
    """
    number = float(value)
    if not number.is_integer() or abs(number) > MAX_GRADE:
        raise ValueError(f"{value!r} is not a whole number from -{MAX_GRADE} to {MAX_GRADE}")
    return int(number)


def identifier(value: Any, what: str) -> str:
    """Return an id as a string; an integer becomes its digits.

    Raises:
        InputError: it is neither a string nor an integer, or it is empty.
    """
    if type(value) is str and value:
        return value
    if isinstance(value, str):
        if value:
            return str(value)
    elif not isinstance(value, bool):
        try:
            return str(operator.index(value))
        except TypeError:
            pass
    raise InputError(f"{what} id {value!r}: an id must be a non-empty string or an integer")


def _lines(path: str | os.PathLike[str], what: str) -> Iterator[tuple[int, bytes]]:
    """Yield (number, line) from 1, decompressed and without a byte-order mark."""
    try:
        with Path(path).open("rb") as plain:
            gzipped = plain.peek(2)[:2] == b"\x1f\x8b"
            file: Iterable[bytes] = gzip.GzipFile(fileobj=plain) if gzipped else plain
            for number, line in enumerate(file, start=1):
                yield number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path}: the gzipped file is truncated or damaged ({error})") from None
    except OSError as error:
        raise InputError(f"cannot read the {what} {path}: {error.strerror or error}") from None


def _text(field: bytes, path: str | os.PathLike[str], number: int) -> str:
    try:
        text = field.decode()
    except UnicodeDecodeError:
        raise InputError(f"{path}:{number}: {field!r} is not UTF-8") from None
    if not text:
        raise InputError(f"{path}:{number}: a column is empty")
    return text


def _score(field: bytes, path: str | os.PathLike[str], number: int) -> float:
    try:
        score = float(field)
    except ValueError:
        score = math.nan
    # Only Python reads 1_000 as a number.
    if not math.isfinite(score) or b"_" in field:
        raise InputError(
            f"{path}:{number}: score {field.decode(errors='replace')!r} is not a finite number"
        )
    return score


def _judgment(field: bytes, path: str | os.PathLike[str], number: int) -> int:
    text = field.decode(errors="replace").strip()
    try:
        if "_" in text:
            raise ValueError
        return grade(text)
    except ValueError:
        raise InputError(
            f"{path}:{number}: judgment {text!r} is not a whole number from "
            f"-{MAX_GRADE} to {MAX_GRADE}"
        ) from None


def _wrong_run_columns(
    path: str | os.PathLike[str], number: int, columns: list[bytes]
) -> InputError:
    expected = "a run has 6: query Q0 document rank score tag"
    if len(columns) == 4 or (len(columns) == 3 and columns[2].lower() in _HEADERS):
        expected += "; these look like qrels: are run and qrels swapped?"
    return InputError(f"{path}:{number}: {len(columns)} columns; {expected}")


def _wrong_qrels_columns(
    path: str | os.PathLike[str], number: int, columns: list[bytes], width: int
) -> InputError:
    if width in (3, 4):
        return InputError(
            f"{path}:{number}: {len(columns)} columns, but the lines before have {width}"
        )
    expected = "qrels have 4: query iteration document relevance (or 3, as BEIR's tsv)"
    if len(columns) == 6:
        expected += "; this looks like a run: are run and qrels swapped?"
    return InputError(f"{path}:{number}: {len(columns)} columns; {expected}")


def _plain(hits: Mapping[Any, Any]) -> TypeGuard[dict[str, float]]:
    """Return whether nothing has to be converted; fast, because runs have millions of hits."""
    return (
        type(hits) is dict
        and set(map(type, hits)) <= {str}
        and set(map(type, hits.values())) <= {float}
        and all(map(math.isfinite, hits.values()))
        and "" not in hits
    )


def _column(value: str, what: str, path: Path) -> None:
    # ASCII white space separates columns; a query that starts with # would be a comment.
    if not value or _ASCII_SPACE.search(value):
        raise InputError(
            f"{path}: {what} {value!r} cannot be written: a TREC column must not be empty or "
            "contain white space"
        )
    if what == "query id" and value.startswith("#"):
        raise InputError(f"{path}: query id {value!r} cannot be written: # begins a comment")


@contextmanager
def _opened_whole(path: Path) -> Iterator[BinaryIO | gzip.GzipFile]:
    """Yield a binary file that is renamed to `path` once all of it is written."""
    with whole(path) as part, part.open("wb") as plain:
        if path.name.endswith(".gz"):
            # Without a name and a time inside, so that the same run gives the same bytes.
            with gzip.GzipFile(filename="", fileobj=plain, mode="wb", mtime=0) as packed:
                yield packed
        else:
            yield plain
