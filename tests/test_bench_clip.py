"""The benchmarks of clip: encoders run from the command line, on small data: training, agreement
with open_clip, throughput.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from retr.benchmarks.images import clip_agreement, train_clip
from retr.benchmarks.images import throughput as image_throughput
from retr.benchmarks.images.train_clip import Pair, Recipe, of_karpathy, of_names, train
from retr.retrieval.encoders import ImageEncoder, resolve
from retr.retrieval.values.errors import InputError

open_clip = pytest.importorskip("open_clip")
torch = pytest.importorskip("torch")

SMALL = Recipe(
    size=16, patch=8, width=32, layers=1, text_width=32, text_layers=1, context=8, dim=8,
    epochs=2, batch=12, rate=1e-3,
)  # fmt: skip


def test_a_training_is_the_same_again_and_another_with_another_seed(
    pictures: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    pairs = of_names(pictures[0])[:24]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        one = train(pairs, tmp_path / "one", SMALL)
        again = train(pairs, tmp_path / "again", SMALL)
        other = train(pairs, tmp_path / "other", replace(SMALL, seed=1))
    finally:
        torch.set_num_threads(threads)
    spaces = [resolve(f"clip:{folder}").space for folder in (one, again, other)]
    assert spaces[0] == spaces[1] != spaces[2]
    made = json.loads((one / "training.json").read_text())
    assert made["recipe"]["seed"] == 0 and made["images"] == 24
    # An ordinary folder of open_clip's: it opens it itself.
    model = open_clip.create_model(f"local-dir:{one}")
    assert model.visual.image_size == (16, 16)


def test_images_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(InputError, match="there are 0 images that can be read"):
        train([Pair(tmp_path / "a.png", ("a",))], tmp_path / "out", SMALL)


def test_pairs_are_read_from_karpathys_file(data: Path, tmp_path: Path) -> None:
    pairs = of_karpathy(data / "flickr1k")
    assert len(pairs) == 800
    assert all(pair.image.is_file() and len(pair.captions) == 5 for pair in pairs)
    with pytest.raises(InputError, match="has 0 files dataset"):
        of_karpathy(tmp_path)


def test_the_commands(
    pictures: tuple[Path, dict[str, str]],
    trained_clip: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "agreement.json"
    arguments = [str(trained_clip), str(pictures[0]), "--spec", "flat", "--out", str(out)]
    clip_agreement.STUDY.main(arguments)
    ((run, found),) = json.loads(out.read_text())["runs"].items()
    assert run.endswith(", test")
    assert found["data"]["images"] == found["data"]["captions"] == 72
    assert 0 < found["largest_difference"]["images"] < 1e-3
    assert 0 < found["largest_difference"]["texts"] < 1e-3
    assert found["largest_difference_of_recall"] <= 0.01
    assert found["open_clip"]["text_to_image"]["10"] > 0.9
    assert [row["system"] for row in found["retr"]] == ["exact", "flat"]
    assert "open_clip, matrix product" in capsys.readouterr().out

    out = tmp_path / "throughput.json"
    arguments = [str(pictures[0]), "--encoder", f"clip:{trained_clip}", "--images", "90"]
    image_throughput.STUDY.main([*arguments, "--rounds", "2", "--workers", "2", "--out", str(out)])
    found = json.loads(out.read_text())["runs"]["90 images"]
    assert found["images"] == 90
    assert {len(each) for each in found["images_per_second"].values()} == {2}
    assert found["ratio"] > 0
    assert "decoding alone" in capsys.readouterr().out

    train_clip.main(
        ["twemoji", str(pictures[0]), "--out", str(tmp_path / "model"), "--epochs", "1"]
    )
    name = capsys.readouterr().out.strip()
    encoder = resolve(name)
    assert isinstance(encoder, ImageEncoder)
    assert np.isfinite(encoder.encode_images(sorted(pictures[0].iterdir())[:3])).all()
