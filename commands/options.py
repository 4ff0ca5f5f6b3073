"""The options that several commands share, and how an option is declared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

if TYPE_CHECKING:
    from ..retrieval.sources.options import SourceOptions

DEFAULT_INDEX = ".retr"

SETTINGS: dict[str, Any] = {
    "rich_markup_mode": None,
    "add_completion": False,
    "pretty_exceptions_enable": False,
    "invoke_without_command": True,
    "context_settings": {"help_option_names": ["-h", "--help"]},
}
"""How every group of commands is set up: plain help, no completion."""


def value(name: str, metavar: str, help: str, *short: str, **more: Any) -> Any:
    """Return an option that takes a value."""
    return typer.Option(name, *short, metavar=metavar, help=help, show_default=False, **more)


def flag(name: str, help: str, *short: str, **more: Any) -> Any:
    """Return an option without a value."""
    return typer.Option(name, *short, help=help, show_default=False, **more)


def argument(metavar: str, help: str) -> Any:
    """Return a positional argument."""
    return typer.Argument(metavar=metavar, help=help, show_default=False)


OptionalText = str | None
OptionalNumber = int | None
Texts = list[str] | None

Index = Annotated[
    str,
    value(
        "--index",
        "PATH",
        "The collection's folder (default: $RETR_INDEX, else ./.retr).",
        envvar="RETR_INDEX",
        show_envvar=False,
    ),
]
Json = Annotated[bool, flag("--json", "Print JSON, one object a line, even on a terminal.")]
Quiet = Annotated[bool, flag("--quiet", "Print only results and errors.", "-q")]
Verbose = Annotated[
    bool, flag("--verbose", "Print what is done, and everything that is skipped.", "-v")
]

Source = Annotated[
    str,
    argument(
        "SOURCE",
        "A folder or file of texts and images; a .jsonl, .csv, .parquet, .npy or .tar file; a "
        "folder in the layout of BEIR, img2dataset or clip-retrieval; or - for standard input.",
    ),
]
Id = Annotated[OptionalText, value("--id", "COLUMN", "The column that holds the ids.")]
Text = Annotated[
    Texts, value("--text", "COLUMN", "The column that holds the text; repeat it to join several.")
]
Title = Annotated[OptionalText, value("--title", "COLUMN", "The column to put before the text.")]
Vector = Annotated[
    OptionalText, value("--vector", "COLUMN", "The column that holds your own vectors.")
]
ImageColumn = Annotated[
    OptionalText, value("--image", "COLUMN", "The column that holds images or their paths.")
]
Images = Annotated[
    OptionalText, value("--images", "DIR", "The folder that image paths are relative to.")
]
RowIds = Annotated[
    OptionalText, value("--ids", "FILE", "A file with the ids of a .npy file's rows.")
]
Include = Annotated[
    Texts, value("--include", "PATTERN", "Read only matching files; patterns as in .gitignore.")
]
Exclude = Annotated[
    Texts, value("--exclude", "PATTERN", "Skip matching files; patterns as in .gitignore.")
]
Format = Annotated[
    OptionalText,
    value(
        "--format",
        "FORMAT",
        "How to read SOURCE if its name does not say: files, beir, jsonl, csv, tsv, lines, "
        "parquet, npy, webdataset, karpathy or clip-retrieval.",
    ),
]
Passages = Annotated[
    bool | None,
    flag(
        "--passages/--no-passages",
        "Split every text into passages, or none (default: split files, keep records whole).",
    ),
]
PassageSize = Annotated[OptionalNumber, value("--passage-size", "N", "Characters in a passage.")]

Encoder = Annotated[
    OptionalText,
    value(
        "--encoder",
        "NAME",
        "What makes the vectors: static, the built-in default; st:MODEL, a sentence-transformers "
        "model; splade:MODEL, a sparse one; clip:MODEL, for images; vectors, your own.",
    ),
]
Recall = Annotated[
    OptionalText,
    value("--recall", "R", "Target recall (0 to 1), or 'exact' to compare every vector."),
]
Memory = Annotated[
    OptionalText,
    value("--memory", "SIZE", "Memory the index may use, such as 2GB; goes with --recall."),
]
Spec = Annotated[OptionalText, value("--spec", "SPEC", "An index spec, instead of --recall.")]
Dtype = Annotated[
    OptionalText, value("--dtype", "TYPE", "How vectors are stored: float32 (default) or float16.")
]
Language = Annotated[
    OptionalText,
    value(
        "--language",
        "NAME",
        "Language of the texts, for search by words (default: english; none keeps words whole).",
    ),
]
QueryPrompt = Annotated[
    OptionalText, value("--query-prompt", "TEXT", "Text to put before each query.")
]
DocumentPrompt = Annotated[
    OptionalText, value("--document-prompt", "TEXT", "Text to put before each document.")
]
MaxLength = Annotated[
    OptionalNumber, value("--max-length", "N", "How many tokens of a text the encoder reads.")
]
Revision = Annotated[
    OptionalText, value("--revision", "REV", "The model's branch, tag or commit on its hub.")
]
Metric = Annotated[
    OptionalText, value("--metric", "METRIC", "How vectors are compared: cosine, ip or l2.")
]
LongText = Annotated[
    OptionalText,
    value(
        "--long-text",
        "HOW",
        "What to do with texts longer than a clip encoder reads: cut (default), chunk (average "
        "windows), chunk-max, or stretch (interpolate positions, up to --max-length).",
    ),
]
Device = Annotated[
    OptionalText, value("--device", "DEVICE", "Where to compute: cpu, cuda, cuda:1, …")
]

# --- what the benchmarks share
Data = Annotated[
    Path | None,
    value(
        "--data",
        "DIR",
        "Where data sets are, or are downloaded to (default: the user's cache folder).",
    ),
]
Cache = Annotated[
    Path | None,
    value(
        "--cache",
        "DIR",
        "Where collections and vectors are kept between runs (default: the user's cache folder).",
    ),
]
AlsoSpec = Annotated[
    OptionalText, value("--spec", "SPEC", "Also search with this index, and report what it loses.")
]


def out(default: str) -> Any:
    """Return the --out option of a benchmark."""
    return value("--out", "DIR", f"Where results go (default: {default}).")


def source_options(
    id: str | None,
    text: Sequence[str] | None,
    title: str | None,
    vector: str | None,
    image: str | None,
    images: str | None,
    ids: str | None,
    include: Sequence[str] | None,
    exclude: Sequence[str] | None,
    format: str | None,
) -> SourceOptions:
    """Return how to read a source; the arguments are the values of the options above.

    Raises:
        InputError: there is no such format.
    """
    from ..retrieval.sources.options import SourceOptions

    return SourceOptions(
        id=id,
        text=tuple(text or ()),
        title=title,
        vector=vector,
        image=image,
        images=images,
        ids=ids,
        include=tuple(include or ()),
        exclude=tuple(exclude or ()),
        format=cast(Any, format),  # checked and converted there
    )
