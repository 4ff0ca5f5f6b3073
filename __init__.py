"""retr: a vector search and retrieval engine whose embedding model can be replaced while it serves.

>>> import retr
>>> collection = retr.build("docs", "docs.retr")
>>> for hit in collection.search("how do I delete a document?"):
...     print(hit.score, hit.uri, hit.text)

Names are loaded when they are first used, so `import retr` is almost free.

May import retrieval, and, in `cli.py` and `__main__.py`, commands.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .retrieval.build import build
    from .retrieval.collection import Collection, open
    from .retrieval.encoders.base import Encoder, EncoderOptions, ImageEncoder, Space, SparseEncoder
    from .retrieval.encoders.functions import from_functions
    from .retrieval.results.results import Results
    from .retrieval.search.rerank import CrossEncoderReranker, Reranker
    from .retrieval.sources.options import SourceOptions
    from .retrieval.values.errors import RetrError
    from .retrieval.values.report import IngestReport
    from .retrieval.values.types import Document, Hit, ImageAt, Query
    from .retrieval.values.version import __version__

_WHERE = {
    "build": ".retrieval.build",
    "open": ".retrieval.collection",
    "Collection": ".retrieval.collection",
    "Document": ".retrieval.values.types",
    "Query": ".retrieval.values.types",
    "Hit": ".retrieval.values.types",
    "ImageAt": ".retrieval.values.types",
    "Results": ".retrieval.results.results",
    "Encoder": ".retrieval.encoders.base",
    "EncoderOptions": ".retrieval.encoders.base",
    "ImageEncoder": ".retrieval.encoders.base",
    "Space": ".retrieval.encoders.base",
    "SparseEncoder": ".retrieval.encoders.base",
    "Reranker": ".retrieval.search.rerank",
    "CrossEncoderReranker": ".retrieval.search.rerank",
    "from_functions": ".retrieval.encoders.functions",
    "IngestReport": ".retrieval.values.report",
    "RetrError": ".retrieval.values.errors",
    "SourceOptions": ".retrieval.sources.options",
    "__version__": ".retrieval.values.version",
}

__all__ = [
    "Collection",
    "CrossEncoderReranker",
    "Document",
    "Encoder",
    "EncoderOptions",
    "Hit",
    "ImageAt",
    "ImageEncoder",
    "IngestReport",
    "Query",
    "Reranker",
    "Results",
    "RetrError",
    "SourceOptions",
    "Space",
    "SparseEncoder",
    "__version__",
    "build",
    "from_functions",
    "open",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_WHERE[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
