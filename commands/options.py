"""The options of the command line: those that several commands share, and how one is written."""

from __future__ import annotations

from collections.abc import Sequence
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
"""How every group of commands is set up."""


def value(name: str, metavar: str, help: str, **more: Any) -> Any:
    """Return an option that takes a value."""
    return typer.Option(name, metavar=metavar, help=help, show_default=False, **more)


def flag(name: str, help: str, *short: str, **more: Any) -> Any:
    """Return an option that is there or not."""
    return typer.Option(name, *short, help=help, show_default=False, **more)


def argument(metavar: str, help: str) -> Any:
    """Return what stands in a command without a name of its own."""
    return typer.Argument(metavar=metavar, help=help, show_default=False)


OptionalText = str | None
OptionalNumber = int | None
Texts = list[str] | None

Index = Annotated[
    str,
    value(
        "--index",
        "PATH",
        "The collection's folder; else $RETR_INDEX, else ./.retr.",
        envvar="RETR_INDEX",
        show_envvar=False,
    ),
]
Json = Annotated[bool, flag("--json", "Print JSON, one object a line, on a terminal too.")]
Quiet = Annotated[bool, flag("--quiet", "Print results and errors only.", "-q")]
Verbose = Annotated[bool, flag("--verbose", "Say what is done and all that is skipped.", "-v")]

Source = Annotated[
    str,
    argument(
        "SOURCE",
        "A folder or file of texts and images, a .jsonl, .csv, .parquet, .npy or .tar file, a "
        "folder in the layout of BEIR, img2dataset or clip-retrieval, or - for standard input.",
    ),
]
Id = Annotated[OptionalText, value("--id", "COLUMN", "The column with the ids.")]
Text = Annotated[Texts, value("--text", "COLUMN", "The column with the text; several are joined.")]
Title = Annotated[OptionalText, value("--title", "COLUMN", "The column put before the text.")]
Vector = Annotated[OptionalText, value("--vector", "COLUMN", "The column with your own vectors.")]
ImageColumn = Annotated[
    OptionalText, value("--image", "COLUMN", "The column with images or their paths.")
]
Images = Annotated[
    OptionalText, value("--images", "DIR", "The folder in which paths of images begin.")
]
RowIds = Annotated[OptionalText, value("--ids", "FILE", "The ids of a .npy file's rows.")]
Include = Annotated[
    Texts, value("--include", "PATTERN", "Read only files like this, as in .gitignore.")
]
Exclude = Annotated[
    Texts, value("--exclude", "PATTERN", "Leave out files like this, as in .gitignore.")
]
Format = Annotated[
    OptionalText,
    value(
        "--format",
        "FORMAT",
        "How to read it where its name does not say: files, beir, jsonl, csv, tsv, lines, "
        "parquet, npy, webdataset, karpathy or clip-retrieval.",
    ),
]
Passages = Annotated[
    bool | None,
    flag(
        "--passages/--no-passages",
        "Split every text into passages, or none; else files are split and records are not.",
    ),
]
PassageSize = Annotated[OptionalNumber, value("--passage-size", "N", "Characters of a passage.")]

Encoder = Annotated[
    OptionalText,
    value(
        "--encoder",
        "NAME",
        "What makes the vectors: static, which is built in and the default; st:MODEL, a "
        "sentence-transformers model; splade:MODEL, a sparse one; vectors, your own.",
    ),
]
Recall = Annotated[
    OptionalText, value("--recall", "R", "The recall wanted, above 0 and up to 1, or exact.")
]
Memory = Annotated[
    OptionalText, value("--memory", "SIZE", "What the index may take, such as 2GB; with --recall.")
]
Spec = Annotated[OptionalText, value("--spec", "SPEC", "An index spec, in place of --recall.")]
Dtype = Annotated[
    OptionalText, value("--dtype", "TYPE", "How vectors are stored: float32 or float16.")
]
Language = Annotated[
    OptionalText,
    value(
        "--language",
        "NAME",
        "Of the texts, for the search by words: english if not given, none for words as they are.",
    ),
]
QueryPrompt = Annotated[OptionalText, value("--query-prompt", "TEXT", "Put before each query.")]
DocumentPrompt = Annotated[
    OptionalText, value("--document-prompt", "TEXT", "Put before each document.")
]
MaxLength = Annotated[
    OptionalNumber, value("--max-length", "N", "Tokens of a text that the encoder reads.")
]
Revision = Annotated[
    OptionalText, value("--revision", "REV", "The model's branch, tag or commit on its hub.")
]
Metric = Annotated[OptionalText, value("--metric", "METRIC", "cosine, ip or l2.")]
LongText = Annotated[
    OptionalText,
    value(
        "--long-text",
        "HOW",
        "What becomes of texts longer than a clip encoder reads: cut (if not given), chunk (the "
        "mean of windows), chunk-max, or stretch (its positions, to --max-length).",
    ),
]
Device = Annotated[
    OptionalText, value("--device", "DEVICE", "Where to compute: cpu, cuda, cuda:1, …")
]


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
    """Return how a source is to be read; the arguments are the values of the options above.

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
