"""Makes `static_2`, the files of the encoder `static:2`: token vectors trained to rank as MiniLM.

    python -m retr.training.train_static OUT [--work FOLDER] [--refine MODEL]

Needs the extras `st` and `test`, `lxml`, and Debian's `apt-get` and `dpkg-deb` for the packages
that `corpus.py` names. Everything between (packages, texts, the teacher's vectors in
shards) stays in the work folder, so that a run that was stopped goes on where it was. The
teacher's pass takes most of the time: about an hour on one core. The files in the repository are
frozen: a collection built with `static:2` must open forever.

1. Vocabulary: that of `static:1`, and the whole words most frequent in the corpus that BERT
   would split. WordPiece takes the longest match, so a listed word becomes one token.
2. Start: every token through the teacher by itself (`distill_static.py`), a new word likewise.
3. Training on texts of the corpus: in a batch, the cosines between the sums of token vectors
   are to be those between the teacher's sentence vectors. The loss is the cross-entropy between
   the two softmax distributions of a row (as in Tian et al., "Contrastive Representation
   Distillation", ICLR 2020, and Hinton et al., "Distilling the Knowledge in a Neural Network",
   2015) and the squared difference, summed over prefixes of 256, 128, 64 and 32 dimensions
   (Kusupati et al., "Matryoshka Representation Learning", NeurIPS 2022). So lengths (how much a
   token counts) and directions are learned together, and no rotation has to be chosen. Beside it,
   with less weight, pairs of texts that belong together (heading and paragraph, first line and
   function, word and definition) are to be nearest to each other in a batch of one kind of pair
   (Henderson et al., "Efficient Natural Language Response Suggestion for Smart Reply", 2017,
   section 4.4); no teacher is needed for these.
4. Training on, for the prefixes: the teacher is now the model itself, as step 3 left it, with all
   its dimensions. So there is no pass of a transformer, and texts may be as long as documents,
   where a prefix loses most. `--refine MODEL` does this step alone, from the files in a folder.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..retrieval.encoders.static import DIMENSIONS, load_folder
from ..retrieval.values.files import whole
from . import corpus, distill_static
from .card import write_card
from .corpus import Pair

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

VERSION = "2"
SEED = 0
SHARD = 4096
TEACHER_TOKENS = 64
TEXT_TOKENS = 64
PAIR_TOKENS = 48
LONG_TOKENS = 256

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recipe:
    """What may be chosen in the training; the defaults are `static:2`.

    words:    number of whole words added to the vocabulary.
    steps:    number of batches; the step size rises for the first 30 and falls to a twentieth.
    batch:    texts a batch.
    pairs:    pairs a batch.
    pulled:   weight of the loss over pairs, where that over the teacher's cosines has 1.
    rate:     step size of Adam, as a share of the root mean square of the vectors' elements.
    scale:    inverse temperature of both distributions.
    prefixes: number of dimensions and the weight of the loss at each.
    paired:   the same for the loss over pairs; empty where it is the same.
    """

    words: int = 20_000
    steps: int = 700
    batch: int = 512
    pairs: int = 384
    pulled: float = 0.3
    rate: float = 0.02
    scale: float = 20.0
    prefixes: tuple[tuple[int, float], ...] = ((256, 1.0), (128, 0.8), (64, 1.2), (32, 0.3))
    paired: tuple[tuple[int, float], ...] = ()


CHOSEN = Recipe()
REFINED = Recipe(
    steps=900,
    prefixes=((256, 3.0), (128, 1.0), (64, 6.0), (32, 0.3)),
    paired=((256, 1.0), (128, 1.0), (64, 6.0), (32, 0.3)),
)
"""Of the fourth step."""


def main(arguments: list[str] | None = None) -> None:
    """Write the files of the model into the folder named on the command line."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description="Make the files of the encoder static:2.")
    parser.add_argument("out", type=Path, help="the folder to write, such as static_2")
    parser.add_argument("--work", type=Path, default=Path("static_2_work"), help="scratch folder")
    parser.add_argument("--teacher", type=Path, help="the teacher's sentence-transformers folder")
    parser.add_argument("--data", type=Path, help="holds beir/scifact and others, for the card")
    parser.add_argument("--refine", type=Path, help="do the last step alone, from these files")
    given = parser.parse_args(arguments)
    teacher = given.teacher or distill_static.installed_teacher()
    work: Path = given.work
    corpus.fetch(work / "packages")
    found = corpus.read(work / "packages", work / "pairs.jsonl")

    texts = _kept(work / "texts.json", lambda: corpus.sample(found, SEED))
    pairs = corpus.sample_of_pairs(found, SEED)
    taught: Path = given.refine or work / "taught"
    if given.refine is None:
        _teach(taught, teacher, work, found, texts, pairs)
    given.out.mkdir(parents=True, exist_ok=True)
    long = corpus.long_texts(found, SEED)
    _refine(taught, given.out, long, texts, pairs)
    repository = Path(__file__).resolve().parents[1]
    data = given.data or Path(os.environ.get("RETR_TEST_DATA", repository.parent / "shared/data"))
    settings = (
        f"Steps 1 to 3: `{CHOSEN}`. Step 4: {len(texts):,} short texts, {len(long):,} long ones, "
        f"{len(pairs):,} pairs, `{REFINED}`. Seed {SEED}, one thread."
    )
    write_card(given.out, taught, teacher, data, settings, given.refine is not None)


def _teach(
    out: Path, teacher: Path, work: Path, found: list[Pair], texts: list[str], pairs: list[Pair]
) -> None:
    """Do the first three steps; write the files of the model into `out`."""
    tokenizer, original_ids = distill_static.trimmed_tokenizer(teacher / "tokenizer.json")
    known = tokenizer["model"]["vocab"]
    added = _kept(work / "words.json", lambda: new_words(found, work / "packages", known))
    encode = partial(_cached, Teacher(teacher))
    outputs = _outputs(work / "tokens.npy", teacher, original_ids)
    start = start_vectors(outputs, list(tokenizer["model"]["vocab"]), encode(work / "words", added))
    for word in added:
        tokenizer["model"]["vocab"][word] = len(tokenizer["model"]["vocab"])
    vectors = train(start, tokenizer, Lessons(texts, encode(work / "texts", texts), pairs), CHOSEN)
    out.mkdir(parents=True, exist_ok=True)
    distill_static.write_model(out, tokenizer, vectors, distill_static.CHOSEN)


def _refine(model: Path, out: Path, long: list[str], short: list[str], pairs: list[Pair]) -> None:
    """Do the last step with the model in a folder; write the files of the new one into `out`."""
    import numpy as np

    before = load_folder(model)
    tokenizer = json.loads((model / "tokenizer.json").read_text(encoding="utf-8"))
    vectors = before.codes.astype(np.float32) * before.scales[:, None]
    targets = [
        _sums(vectors, TokenBags(tokenizer, texts, most), len(texts))
        for texts, most in ((short, TEXT_TOKENS), (long, LONG_TOKENS))
    ]
    lessons = Lessons(short, np.concatenate(targets), pairs, long)
    vectors = train(vectors, tokenizer, lessons, REFINED)
    distill_static.write_model(out, tokenizer, vectors, distill_static.CHOSEN)


def _sums(vectors: NDArray[np.float32], bags: TokenBags, n: int) -> NDArray[np.float32]:
    """Return f32[n, 256], for each text the sum of its token vectors."""
    import numpy as np
    import torch

    table = torch.from_numpy(vectors)
    parts = []
    for first in range(0, n, SHARD):
        tokens, begins = bags.of(np.arange(first, min(first + SHARD, n)))
        sums = torch.nn.functional.embedding_bag(tokens, table, begins, mode="sum")
        parts.append(sums.numpy())
    return np.concatenate(parts)


def _outputs(file: Path, teacher: Path, ids: list[int]) -> NDArray[np.float32]:
    """Return f32[tokens, 384], each token by itself in the teacher, from `file` if it is there."""
    import numpy as np

    if not file.is_file():
        with whole(file) as part, part.open("wb") as opened:
            np.save(opened, distill_static.teacher_outputs(teacher, ids, special=True))
    kept: NDArray[np.float32] = np.load(file)
    return kept


def _kept(file: Path, make: Callable[[], list[str]]) -> list[str]:
    """Return the texts in `file`, which `make` gives when there is none yet."""
    if not file.is_file():
        with whole(file) as part:
            part.write_text(json.dumps(make()), encoding="utf-8")
    kept: list[str] = json.loads(file.read_text(encoding="utf-8"))
    return kept


def new_words(
    found: list[Pair], packages: Path, known: dict[str, int], number: int = CHOSEN.words
) -> list[str]:
    """Return the most frequent words that are in a dictionary and no token yet.

    The dictionary is the English word list and WordNet's lemmas; it keeps out misspellings and
    the names that programs give to things.
    """
    listed = set(corpus.words(packages))
    seen: Counter[str] = Counter()
    for pair in found:
        if pair.kind == "gloss":
            listed.update(re.findall(r"[a-z]+", pair.first.lower()))
        if pair.kind != "code":
            seen.update(re.findall(r"[a-z]+", f"{pair.first} {pair.second}".lower()))
    frequent = [
        (-count, word)
        for word, count in seen.items()
        if count > 1 and word in listed and word not in known and 3 < len(word) < 24
    ]
    return [word for _, word in sorted(frequent)[:number]]


class Teacher:
    """all-MiniLM-L6-v2 over short texts: mean pooled, not normalised."""

    def __init__(self, folder: Path) -> None:
        import torch
        from tokenizers import Tokenizer
        from transformers import AutoModel

        torch.set_num_threads(1)
        self._model = AutoModel.from_pretrained(str(folder), local_files_only=True).eval()
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(TEACHER_TOKENS)
        self._tokenizer.no_padding()

    def encode(self, texts: list[str]) -> NDArray[np.float16]:
        """Return f16[n, 384]; texts of like length share a batch, so little is padded."""
        import numpy as np
        import torch

        ids = [encoding.ids for encoding in self._tokenizer.encode_batch(texts)]
        order = sorted(range(len(ids)), key=lambda position: len(ids[position]))
        out = np.empty((len(texts), 384), np.float16)
        for first in range(0, len(order), 64):
            rows = order[first : first + 64]
            width = len(ids[rows[-1]])
            tokens = torch.tensor([ids[row] + [0] * (width - len(ids[row])) for row in rows])
            mask = torch.tensor([[n < len(ids[row]) for n in range(width)] for row in rows]).int()
            with torch.inference_mode():
                states = self._model(input_ids=tokens, attention_mask=mask).last_hidden_state
            out[rows] = (states * mask[..., None]).sum(1).div(mask.sum(1, keepdim=True)).numpy()
        return out


def _cached(teacher: Teacher, folder: Path, texts: list[str]) -> NDArray[np.float32]:
    """Return f32[n, 384] from the shards in `folder`; those that are missing are made."""
    import numpy as np

    folder.mkdir(parents=True, exist_ok=True)
    shards = []
    for first in range(0, len(texts), SHARD):
        file = folder / f"{first // SHARD:04d}.npy"
        if not file.is_file():
            with whole(file) as part, part.open("wb") as opened:
                np.save(opened, teacher.encode(texts[first : first + SHARD]))
            _log.info("%s: %d of %d texts", folder.name, first, len(texts))
        shards.append(np.load(file).astype(np.float32))
    return np.concatenate(shards)


def start_vectors(
    outputs: NDArray[np.float32], vocabulary: list[str], words: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return f32[tokens + words, 256]: `static:1`'s vectors, and the words in the same axes.

    A word gets no frequency weight to begin with: all of them are rare.
    """
    import numpy as np

    known = np.array([token != "[UNK]" for token in vocabulary])
    middle = outputs[known].astype(np.float64).mean(axis=0)
    rows = outputs - middle
    _, axes = np.linalg.eigh(rows[known].T @ rows[known])
    axes = axes[:, ::-1][:, : DIMENSIONS[VERSION]]
    weights = distill_static.sif_weights(vocabulary, 3e-4, reordered=True)
    tokens = (rows @ axes) * (weights * known)[:, None]
    return np.concatenate([tokens, (words - middle) @ axes]).astype(np.float32)


@dataclass(frozen=True)
class Lessons:
    """What is learned from.

    texts:   short ones.
    targets: the teacher's vectors of the texts and then of the long ones, f32[n, width], of any
             length.
    pairs:   texts that belong together.
    long:    texts that half of each batch is to be of, where there are any.
    """

    texts: list[str]
    targets: NDArray[np.float32]
    pairs: list[Pair]
    long: Sequence[str] = ()


def train(
    start: NDArray[np.float32], tokenizer: dict[str, Any], lessons: Lessons, recipe: Recipe
) -> NDArray[np.float32]:
    """Return f32[tokens, 256], the token vectors after the training; the largest element is 1."""
    import numpy as np
    import torch

    torch.manual_seed(SEED)
    torch.set_num_threads(1)  # sums in the same order on any number of cores
    rng = np.random.default_rng(SEED)
    taught = TokenBags(tokenizer, lessons.texts, TEXT_TOKENS)
    long = TokenBags(tokenizer, list(lessons.long), LONG_TOKENS) if lessons.long else None
    short = recipe.batch if long is None else recipe.batch - recipe.batch // 2
    goals = torch.nn.functional.normalize(torch.from_numpy(lessons.targets), dim=1)
    firsts = TokenBags(tokenizer, [pair.first for pair in lessons.pairs], PAIR_TOKENS)
    seconds = TokenBags(tokenizer, [pair.second for pair in lessons.pairs], PAIR_TOKENS)
    draw = _kinds(lessons.pairs, rng)
    spread = float(np.sqrt((start[start.any(axis=1)] ** 2).mean()))
    table = torch.nn.EmbeddingBag.from_pretrained(
        torch.from_numpy(start / spread), freeze=False, mode="sum", sparse=True
    )
    optimiser = torch.optim.SparseAdam([table.weight], lr=recipe.rate, betas=(0.9, 0.98))
    order: NDArray[np.intp] = np.empty(0, np.intp)
    for step in range(recipe.steps):
        if len(order) < short:
            order = rng.permutation(len(lessons.texts))
        rows, order = order[:short], order[short:]
        tokens, begins = taught.of(rows)
        if long is not None:
            more = rng.integers(0, len(lessons.long), recipe.batch - short)
            others, theirs = long.of(more)
            begins = torch.cat([begins, theirs + len(tokens)])
            tokens = torch.cat([tokens, others])
            rows = np.concatenate([rows, len(lessons.texts) + more])
        ramp = min(1, (step + 1) / 30) * max(0.05, 1 - step / recipe.steps)
        optimiser.param_groups[0]["lr"] = recipe.rate * ramp
        optimiser.zero_grad()
        loss = ranked_as_taught(table(tokens, begins), goals[torch.from_numpy(rows)], recipe)
        if recipe.pulled:
            rows = draw(recipe.pairs)
            together = nearest(table(*firsts.of(rows)), table(*seconds.of(rows)), recipe)
            loss = loss + recipe.pulled * together
        loss.backward()
        optimiser.step()
        if (step + 1) % 50 == 0:
            _log.info("step %d: loss %.3f", step + 1, loss.item())
    trained = table.weight.detach().numpy()
    trained[tokenizer["model"]["vocab"]["[UNK]"]] = 0  # what is unknown says nothing
    return np.asarray(trained / np.abs(trained).max(), np.float32)


def _kinds(pairs: list[Pair], rng: np.random.Generator) -> Callable[[int], NDArray[np.intp]]:
    """Return what draws n pairs of one kind; a kind comes up by its size to the power 0.7."""
    import numpy as np

    kinds = np.array([pair.kind for pair in pairs])
    groups = [np.flatnonzero(kinds == kind) for kind in sorted(set(kinds.tolist()))]
    share = np.array([len(group) for group in groups]) ** 0.7
    share /= share.sum()

    def draw(n: int) -> NDArray[np.intp]:
        group = groups[rng.choice(len(groups), p=share)]
        return rng.choice(group, min(n, len(group)), replace=False)

    return draw


def ranked_as_taught(sums: torch.Tensor, goals: torch.Tensor, recipe: Recipe) -> torch.Tensor:
    """Return how far the cosines between `sums` f32[b, 256] are from those between `goals`."""
    import torch

    normalise, none = torch.nn.functional.normalize, torch.finfo(torch.float32).min
    wanted = goals @ goals.T
    itself = torch.eye(len(goals), dtype=torch.bool)
    shares = (wanted * recipe.scale).masked_fill(itself, none).softmax(dim=1)
    total = torch.zeros(())
    for dim, weight in recipe.prefixes:
        unit = normalise(sums[:, :dim], dim=1)
        got = unit @ unit.T
        logs = (got * recipe.scale).masked_fill(itself, none).log_softmax(dim=1)
        ranking = -(shares * logs.masked_fill(itself, 0)).sum(dim=1).mean()
        total = total + weight * (ranking + 20 * (got - wanted)[~itself].square().mean())
    return total


def nearest(first: torch.Tensor, second: torch.Tensor, recipe: Recipe) -> torch.Tensor:
    """Return how far each of `first` f32[b, 256] is from having its own of `second` nearest."""
    import torch

    normalise, cross_entropy = torch.nn.functional.normalize, torch.nn.functional.cross_entropy
    own = torch.arange(len(first))
    total = torch.zeros(())
    for dim, weight in recipe.paired or recipe.prefixes:
        got = normalise(first[:, :dim], dim=1) @ normalise(second[:, :dim], dim=1).T * recipe.scale
        total = total + weight * (cross_entropy(got, own) + cross_entropy(got.T, own)) / 2
    return total


class TokenBags:
    """The tokens of many texts, one after the other, as EmbeddingBag takes them."""

    def __init__(self, tokenizer: dict[str, Any], texts: list[str], most: int) -> None:
        import numpy as np
        from tokenizers import Tokenizer

        splitter = Tokenizer.from_str(json.dumps(tokenizer))
        encodings = splitter.encode_batch([text[: 10 * most] for text in texts])
        ids = [encoding.ids[:most] for encoding in encodings]
        self._lengths = np.array([len(each) for each in ids])
        self._starts = np.cumsum(self._lengths) - self._lengths
        self._ids = np.concatenate([np.array(each, np.int64) for each in ids])

    def of(self, rows: NDArray[np.intp]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the tokens of these texts, i64[tokens], and where each begins, i64[texts]."""
        import numpy as np
        import torch

        lengths = self._lengths[rows]
        begins = np.cumsum(lengths) - lengths
        where = np.repeat(self._starts[rows] - begins, lengths) + np.arange(lengths.sum())
        return torch.from_numpy(self._ids[where]), torch.from_numpy(begins)


if __name__ == "__main__":
    main()
