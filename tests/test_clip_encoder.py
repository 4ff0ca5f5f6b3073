"""The family `clip` against bare open_clip: vectors, preparation, files of every kind, texts that
are too long. The models are tiny ones with random weights, saved as published ones are.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from numpy.typing import NDArray
from PIL import Image

from retr.retrieval.encoders import Encoder, EncoderOptions, ImageEncoder, resolve
from retr.retrieval.encoders._clip_texts import Tokens, stretched_positions
from retr.retrieval.encoders.clip import ClipEncoder, batch_for
from retr.retrieval.encoders.clip_loading import Loaded
from retr.retrieval.encoders.clip_preparation import Preparation
from retr.retrieval.values.errors import InputError
from retr.retrieval.values.images import open_image

from .broken_images import photograph
from .clips import OPENAI, TINY, tiny_model, write_folder

os.environ.setdefault("HF_HUB_OFFLINE", "1")

open_clip = pytest.importorskip("open_clip")
torch = pytest.importorskip("torch")

TEXTS = ["a photo of a cat", "", "Two dogs, running; naïve 速い", "x"]
LONG = "one red bus and two green trams under a blue bridge in the old town at night " * 6
IMAGES = [photograph(0), photograph(1, (64, 96)), photograph(2, (33, 32)), photograph(3, (20, 9))]


def opened(target: object, **options: Any) -> ClipEncoder:
    encoder = resolve(f"clip:{target}", EncoderOptions(**options))
    assert isinstance(encoder, ClipEncoder)
    return encoder


def own(folder: Path, images: list[Image.Image], texts: list[str]) -> tuple[Any, Any]:
    """Return open_clip's own unit vectors of images and texts."""
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    model.eval()
    with torch.no_grad():
        seen = model.encode_image(torch.stack([transform(i) for i in images]), normalize=True)
        read = model.encode_text(tokenizer(texts), normalize=True)
    return seen.numpy(), read.numpy()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("clip") / "tiny")


@pytest.fixture(scope="module")
def encoder(folder: Path) -> ClipEncoder:
    return opened(folder)


# ---------------------------------------------------------------- vectors


def test_vectors_are_open_clips_own(folder: Path, encoder: ClipEncoder) -> None:
    texts = [*TEXTS, LONG]
    seen, read = own(folder, IMAGES, texts)
    np.testing.assert_allclose(encoder.encode_images(IMAGES), seen, atol=1e-5)
    np.testing.assert_allclose(encoder.encode_queries(texts), read, atol=1e-5)
    np.testing.assert_allclose(encoder.encode_documents(texts), read, atol=1e-5)
    assert isinstance(encoder, ImageEncoder) and "image" in encoder.modalities
    assert encoder.long_text_ways == ("chunk", "chunk-max", "stretch")


def test_a_trained_model_knows_its_pictures(
    trained_clip: Path, pictures: tuple[Path, dict[str, str]]
) -> None:
    encoder = opened(trained_clip)
    captions = pictures[1]
    paths = [pictures[0] / name for name in captions]
    scores = encoder.encode_queries(list(captions.values())) @ encoder.encode_images(paths).T
    ranks = (scores > np.diag(scores)[:, None]).sum(axis=1)
    assert (ranks < 10).mean() > 0.97
    assert (ranks == 0).mean() > 0.7
    seen, read = own(trained_clip, [open_image(path) for path in paths], list(captions.values()))
    np.testing.assert_allclose(scores, read @ seen.T, atol=1e-3)


def test_real_emoji_have_open_clips_own_vectors(trained_clip: Path, data: Path) -> None:
    paths = sorted((data / "twemoji" / "png").glob("*.png"))[::61]
    images = [open_image(path) for path in paths]
    texts = [path.stem for path in paths]
    seen, read = own(trained_clip, images, texts)
    encoder = opened(trained_clip)
    assert np.abs(encoder.encode_images(paths) - seen).max() < 1e-3
    assert np.abs(encoder.encode_queries(texts) - read).max() < 1e-3


def test_the_first_dimensions_can_be_kept(folder: Path, encoder: ClipEncoder) -> None:
    cut = opened(f"{folder}@8")
    assert (cut.space.dim, cut.name) == (8, f"clip:{folder}@8")
    for full, short in (
        (encoder.encode_images(IMAGES), cut.encode_images(IMAGES)),
        (encoder.encode_queries(TEXTS), cut.encode_queries(TEXTS)),
    ):
        kept = full[:, :8]
        np.testing.assert_allclose(short, kept / np.linalg.norm(kept, axis=1)[:, None], atol=1e-5)
    with pytest.raises(InputError, match="has 24 dimensions, so 25 cannot be kept"):
        opened(f"{folder}@25")


def test_an_inner_product_keeps_the_lengths(folder: Path, encoder: ClipEncoder) -> None:
    plain = opened(folder, metric="ip")
    assert not plain.space.normalised
    vectors = plain.encode_images(IMAGES)
    lengths = np.linalg.norm(vectors, axis=1)[:, None]
    assert np.abs(lengths - 1).max() > 0.01
    np.testing.assert_allclose(vectors / lengths, encoder.encode_images(IMAGES), atol=1e-5)


def test_images_in_any_batch(encoder: ClipEncoder) -> None:
    together = encoder.encode_images(IMAGES * 12)
    for number, image in enumerate(IMAGES):
        alone = encoder.encode_images([image])[0]
        assert np.abs(together[number :: len(IMAGES)] - alone).max() < 1e-5
    assert encoder.encode_images([]).shape == (0, 24)
    arrays = np.stack([encoder.prepare(image) for image in IMAGES])
    before = arrays.copy()
    np.testing.assert_allclose(encoder.encode_prepared(arrays), together[:4], atol=1e-5)
    assert np.array_equal(arrays, before)
    with pytest.raises(InputError, match=r"give uint8\[n, 32, 32, 3\]"):
        encoder.encode_prepared(np.zeros((2, 16, 16, 3), np.uint8))


def test_threads_at_once(encoder: ClipEncoder) -> None:
    alone = [encoder.encode_images([image]) for image in IMAGES]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda image: encoder.encode_images([image]), IMAGES * 4))
    for number, vectors in enumerate(together):
        np.testing.assert_allclose(vectors, alone[number % len(IMAGES)], atol=1e-6)


class Small(torch.nn.Module):  # type: ignore[misc, name-defined]
    """A model on a device that has room for three images."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model, self.visual = model, model.visual
        self.context_length = model.context_length
        self.asked: list[int] = []

    def encode_image(self, images: Any) -> Any:
        self.asked.append(len(images))
        if len(images) > 3:
            raise torch.OutOfMemoryError("out of memory")
        return self.model.encode_image(images)

    def encode_text(self, texts: Any) -> Any:
        return self.model.encode_text(texts)


def test_batches_become_smaller_where_memory_runs_out(encoder: ClipEncoder) -> None:
    model = Small(tiny_model()[0])
    tokenizer = open_clip.SimpleTokenizer(context_length=40)
    loaded = Loaded("small", model, tokenizer, {**OPENAI, "size": 32}, b"")
    small = ClipEncoder(loaded, "clip:small")
    small.image_batch_size = 16
    np.testing.assert_allclose(
        small.encode_images(IMAGES * 4), encoder.encode_images(IMAGES * 4), atol=1e-5
    )
    assert small.image_batch_size == 2
    assert model.asked == [16, 8, 4, *[2] * 8]


@given(some.integers(1, 1 << 40), some.integers(0, 1 << 45), some.integers(1, 4096))
def test_a_batch_fits_into_half_of_what_is_free(item: int, free: int, most: int) -> None:
    batch = batch_for(item, free, most)
    assert 1 <= batch <= most and batch & (batch - 1) == 0
    assert batch == 1 or batch * item <= free / 2
    assert 2 * batch > most or 2 * batch * item > free / 2 or 2 * batch > free // 2 // item


def test_vectors_that_are_not_finite_are_refused(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(folder, tmp_path / "spoilt")
    file = tmp_path / "spoilt" / "open_clip_model.safetensors"
    weights = load_file(file)
    weights["visual.proj"][0] = float("nan")
    save_file(weights, file)
    spoilt = opened(tmp_path / "spoilt")
    spoilt.encode_queries(TEXTS)
    with pytest.raises(InputError, match="not finite"):
        spoilt.encode_images(IMAGES)


# ---------------------------------------------------------------- preparation of images


@settings(max_examples=120, deadline=None)
@given(
    size=some.tuples(some.integers(1, 90), some.integers(1, 90)),
    target=some.sampled_from([(16, 16), (24, 16), (15, 33), (32, 32)]),
    resize=some.sampled_from(["shortest", "longest", "squash"]),
    interpolation=some.sampled_from(["bicubic", "bilinear"]),
    fill=some.sampled_from([0, 127]),
)
def test_images_are_prepared_as_open_clip_does(
    size: tuple[int, int], target: tuple[int, int], resize: str, interpolation: str, fill: int
) -> None:
    """The same bytes as its transforms, which are asked to leave out mean and deviation."""
    image = photograph(size[0], size)
    square: Any = target[0] if target[0] == target[1] else target
    transform = open_clip.image_transform(
        square,
        is_train=False,
        mean=(0.0,) * 3,
        std=(1.0,) * 3,
        resize_mode=resize,
        interpolation=interpolation,
        fill_color=fill,
    )
    ratio = max(size) / min(size)
    if resize == "longest" and round(min(size) / (max(size) / min(target))) < 1:
        return  # open_clip fails: nothing would be left of the short side
    expected = (transform(image).permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    made = Preparation(*target, resize, interpolation, fill)(image)
    if resize == "shortest" and ratio > 16:
        assert made.shape == expected.shape  # the ends were cut off before
    else:
        assert np.array_equal(made, expected)
    assert made.flags["C_CONTIGUOUS"]


def test_an_extremely_long_image_takes_no_memory() -> None:
    """open_clip would make 3.3 thousand million pixels of it."""
    strip = Image.new("RGB", (1, 65_000), (10, 200, 30))
    for image in (strip, strip.rotate(90, expand=True)):
        for resize in ("shortest", "longest", "squash"):
            made = Preparation(224, 224, resize)(image)
            assert made.shape == (224, 224, 3)
            assert made[110:114, 110:114].reshape(-1, 3).max(axis=0).tolist() == [10, 200, 30]


def test_the_models_own_preparation_is_used(tmp_path: Path) -> None:
    siglip = {
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
        "interpolation": "bicubic",
        "resize_mode": "squash",
    }
    folder = write_folder(tmp_path / "squash", preparation=siglip)
    np.testing.assert_allclose(
        opened(folder).encode_images(IMAGES), own(folder, IMAGES, ["x"])[0], atol=1e-5
    )


# ---------------------------------------------------------------- the space


def test_the_space_is_that_of_the_weights_wherever_they_lie(
    folder: Path, encoder: ClipEncoder, tmp_path: Path
) -> None:
    shutil.copytree(folder, tmp_path / "elsewhere")
    assert opened(tmp_path / "elsewhere").space == encoder.space
    model = tiny_model()[0]
    model.logit_scale.data.fill_(3)  # no vector depends on it
    (tmp_path / "elsewhere" / "open_clip_model.safetensors").unlink()
    half = {name: value.half() for name, value in model.state_dict().items()}
    torch.save(model.state_dict(), tmp_path / "elsewhere" / "open_clip_pytorch_model.bin")
    assert opened(tmp_path / "elsewhere").space == encoder.space
    torch.save(half, tmp_path / "elsewhere" / "open_clip_pytorch_model.bin")
    assert opened(tmp_path / "elsewhere").space != encoder.space
    assert encoder.space.max_length == 40


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"quick_gelu": True},
        {"preparation": {**OPENAI, "resize_mode": "squash"}},
        {"preparation": {**OPENAI, "interpolation": "bilinear"}},
        {"preparation": {**OPENAI, "mean": [0.5, 0.5, 0.5]}},
        {"preparation": {**OPENAI, "std": [0.5, 0.5, 0.5]}},
        {"text_cfg": {**TINY["text_cfg"], "heads": 4}},
        {"vision_cfg": {**TINY["vision_cfg"], "head_width": 8}},
        {"vision_cfg": {**TINY["vision_cfg"], "pool_type": "avg"}},
        {"vision_cfg": {**TINY["vision_cfg"], "act_kwargs": {"approximate": "tanh"}}},
        {"vision_cfg": {**TINY["vision_cfg"], "norm_kwargs": {"eps": 0.1}}},
        {"text_cfg": {**TINY["text_cfg"], "no_causal_mask": True}},
        {"text_cfg": {**TINY["text_cfg"], "pool_type": "first"}},
        {"text_cfg": {**TINY["text_cfg"], "tokenizer_kwargs": {"clean": "whitespace"}}},
    ],
    ids=str,
)
def test_whatever_changes_vectors_is_another_space(
    change: dict[str, Any], encoder: ClipEncoder, tmp_path: Path
) -> None:
    other = opened(write_folder(tmp_path / "other", **change))
    assert other.space != encoder.space
    images = np.abs(other.encode_images(IMAGES) - encoder.encode_images(IMAGES)).max()
    texts = np.abs(other.encode_queries(TEXTS) - encoder.encode_queries(TEXTS)).max()
    assert max(images, texts) > 5e-5, "it changes no vector"


# ---------------------------------------------------------------- names and files


@pytest.fixture
def architectures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Architectures that open_clip knows: test-tiny, and a twin of it with QuickGELU."""
    configs = dict(open_clip.factory._MODEL_CONFIGS)
    paths = list(open_clip.factory._MODEL_CONFIG_PATHS)
    written = tmp_path / "configs"
    written.mkdir()
    (written / "test-tiny.json").write_text(json.dumps(TINY))
    (written / "test-tiny-quickgelu.json").write_text(json.dumps({**TINY, "quick_gelu": True}))
    open_clip.add_model_config(written)
    yield
    open_clip.factory._MODEL_CONFIG_PATHS[:] = paths
    open_clip.factory._MODEL_CONFIGS.clear()
    open_clip.factory._MODEL_CONFIGS.update(configs)


def tagged(monkeypatch: pytest.MonkeyPatch, **tags: dict[str, Any]) -> None:
    """Give test-tiny weights with tags, as open_clip's table has them."""
    from open_clip import pretrained

    entries = {tag: {**OPENAI, **entry} for tag, entry in tags.items()}
    monkeypatch.setitem(pretrained._PRETRAINED, "test-tiny", entries)


def same(one: ClipEncoder, other: ClipEncoder) -> bool:
    return one.space == other.space and np.allclose(
        one.encode_images(IMAGES), other.encode_images(IMAGES), atol=1e-5
    )


@pytest.fixture
def twins(tmp_path: Path) -> tuple[ClipEncoder, ClipEncoder]:
    """Return the same weights with GELU and with QuickGELU."""
    return (
        opened(write_folder(tmp_path / "twin-gelu")),
        opened(write_folder(tmp_path / "twin-quick", quick_gelu=True)),
    )


def save_plain(path: Path, model: Any) -> None:
    torch.save(model.state_dict(), path)


def save_training(path: Path, model: Any) -> None:
    """Save as open_clip's training does, from several processes."""
    weights = {f"module.{name}": value for name, value in model.state_dict().items()}
    torch.save({"epoch": 3, "name": "run", "state_dict": weights, "optimizer": {}}, path)


def save_safe(path: Path, model: Any) -> None:
    from safetensors.torch import save_file

    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, path)


@pytest.mark.usefixtures("architectures")
@pytest.mark.parametrize(
    ("name", "save"),
    [
        ("weights.pt", save_plain),
        ("epoch_3.pt", save_training),
        ("weights.safetensors", save_safe),
        ("weights.bin", save_plain),
    ],
)
def test_files_of_weights(
    name: str,
    save: Callable[[Path, Any], None],
    encoder: ClipEncoder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    save(tmp_path / name, tiny_model()[0])
    assert same(opened(f"test-tiny/{tmp_path / name}"), encoder)
    monkeypatch.chdir(tmp_path)
    assert same(opened(f"test-tiny/{name}"), encoder)
    relative = opened(f"test-tiny/./{name}")
    assert same(relative, encoder)
    assert relative.name == f"clip:test-tiny/{tmp_path / name}", "opens from any folder"
    shutil.copy(Path(encoder.name.removeprefix("clip:")) / "open_clip_config.json", tmp_path)
    assert same(opened(tmp_path / name), encoder), "the configuration lies beside it"


@pytest.mark.usefixtures("architectures")
def test_tags_bring_their_activation_and_preparation(
    twins: tuple[ClipEncoder, ClipEncoder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "weights.pt"
    save_plain(file, tiny_model()[0])
    squash = {"resize_mode": "squash", "mean": [0.5] * 3, "std": [0.5] * 3}
    tagged(
        monkeypatch,
        openai={"file": str(file), "quick_gelu": True},
        laion={"file": str(file), "quick_gelu": False},
        webli={"file": str(file), "quick_gelu": False, **squash},
    )
    plain, quick = twins
    assert not np.allclose(plain.encode_images(IMAGES), quick.encode_images(IMAGES), atol=1e-3), (
        "the activation matters"
    )
    monkeypatch.chdir(tmp_path)
    (tmp_path / "openai").write_text("a file with the name of a tag is not taken for it")
    assert same(opened("test-tiny/openai"), quick)
    assert same(opened("test/tiny/openai"), quick), "architectures are written with a slash, too"
    assert same(opened("test-tiny/laion"), plain)
    squashed = opened(write_folder(tmp_path / "squash", preparation={**OPENAI, **squash}))
    assert same(opened("test-tiny/webli"), squashed)


@pytest.mark.usefixtures("architectures")
def test_a_file_does_not_lose_its_activation_in_silence(
    twins: tuple[ClipEncoder, ClipEncoder],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    plain, quick = twins
    model = tiny_model()[0]
    tagged(
        monkeypatch,
        openai={"file": "nowhere", "quick_gelu": True},
        laion={"file": "nowhere", "quick_gelu": False},
    )
    caplog.set_level(logging.WARNING, "retr")
    # What says it: the name, open_clip's own log of the training, the configuration.
    save_plain(tmp_path / "ViT-tiny.openai.pt", model)
    assert same(opened(f"test-tiny/{tmp_path / 'ViT-tiny.openai.pt'}"), quick)
    checkpoints = tmp_path / "logs" / "run" / "checkpoints"
    checkpoints.mkdir(parents=True)
    save_training(checkpoints / "epoch_3.pt", model)
    params = checkpoints.parent / "params.txt"
    for said, expected in (
        ("model: test-tiny\nforce_quick_gelu: True\n", quick),
        ("model: test-tiny-quickgelu\nforce_quick_gelu: False\n", quick),
        ("model: test-tiny\nforce_quick_gelu: False\n", plain),
    ):
        params.write_text(said)
        assert same(opened(f"test-tiny/{checkpoints / 'epoch_3.pt'}"), expected)
    weights = Path(quick.name.removeprefix("clip:")) / "open_clip_model.safetensors"
    assert same(opened(f"test-tiny/{weights}"), quick)
    assert not caplog.records
    # Nothing says it: the user is told, and how to say it.
    save_plain(tmp_path / "mine.pt", model)
    assert same(opened(f"test-tiny/{tmp_path / 'mine.pt'}"), plain)
    (warning,) = caplog.messages
    assert f"write clip:test-tiny-quickgelu/{tmp_path / 'mine.pt'}" in warning
    caplog.clear()
    assert same(opened(f"test-tiny-quickgelu/{tmp_path / 'mine.pt'}"), quick)
    assert not caplog.records
    # All weights of the architecture are of one kind: no doubt.
    tagged(monkeypatch, openai={"file": "nowhere", "quick_gelu": True})
    assert same(opened(f"test-tiny/{tmp_path / 'mine.pt'}"), quick)
    assert not caplog.records


@pytest.mark.usefixtures("architectures")
@pytest.mark.filterwarnings("ignore")
def test_a_program_of_torchscript_says_its_activation(
    twins: tuple[ClipEncoder, ClipEncoder], tmp_path: Path
) -> None:
    """OpenAI's own files are such programs."""
    for quick, twin in zip((False, True), twins, strict=True):
        model = tiny_model(quick_gelu=quick)[0]
        file = tmp_path / f"program-{quick}.pt"
        traced = torch.jit.trace_module(
            model,
            {
                "encode_image": torch.zeros(1, 3, 32, 32),
                "encode_text": torch.zeros(1, 40, dtype=torch.long),
            },
            check_trace=False,
        )
        traced.save(file)
        assert same(opened(f"test-tiny/{file}"), twin)


@pytest.mark.usefixtures("architectures")
def test_nothing_in_a_file_is_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return (os.mkdir, (str(tmp_path / "it was run"),))

    for number, keep in enumerate((torch.save, lambda v, f: f.write_bytes(pickle.dumps(v)))):
        file = tmp_path / f"trap{number}.pt"
        keep({"state_dict": Trap()}, file)
        with pytest.raises(InputError, match="cannot be loaded"):
            opened(f"test-tiny/{file}")
    assert not (tmp_path / "it was run").exists()
    text = {**TINY["text_cfg"], "tokenizer_kwargs": {"trust_remote_code": True}}
    with pytest.raises(InputError, match="needs its own Python code"):
        opened(write_folder(tmp_path / "own-code", text_cfg=text))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("clip", "write clip:ARCH/PRETRAINED"),
        ("clip:", "write clip:ARCH/PRETRAINED"),
        ("clip:hf-hub:", "write clip:ARCH/PRETRAINED"),
        ("clip:/no/such/folder", "no folder or file '/no/such/folder'"),
        ("clip:ViT-B-32", "name the weights too, as in clip:ViT-B-32/PRETRAINED; open_clip has"),
        ("clip:ViT-B-32/opneai", "no weights 'opneai' for the architecture ViT-B-32; open_clip"),
        ("clip:ViT-B/32/nothing", "no weights 'nothing' for the architecture ViT-B-32"),
        ("clip:ViT-B-32/nowhere.pt", "there is no file 'nowhere.pt'"),
        ("clip:ViT-B-33/openai", "no architecture 'ViT-B-33'; close: ViT-B-32"),
        ("clip:a\0b/c", "open_clip has no architecture"),
        ("clip:ViT-B-32/openai", "offline or cannot be reached"),
        ("clip:hf-hub:somebody/something", "offline or cannot be reached"),
    ],
)
def test_what_is_not_there_is_one_line(
    name: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        resolve(name)
    assert said in str(caught.value)
    assert repr(name) in str(caught.value)
    assert "\n" not in str(caught.value)


def no_config(folder: Path) -> None:
    (folder / "open_clip_config.json").unlink()


def no_weights(folder: Path) -> None:
    (folder / "open_clip_model.safetensors").unlink()


def cut_weights(folder: Path) -> None:
    file = folder / "open_clip_model.safetensors"
    file.write_bytes(file.read_bytes()[:5000])


def cut_archive(folder: Path) -> None:
    no_weights(folder)
    file = folder / "open_clip_pytorch_model.bin"
    save_plain(file, tiny_model()[0])
    file.write_bytes(file.read_bytes()[:5000])


def empty_weights(folder: Path) -> None:
    no_weights(folder)
    (folder / "open_clip_pytorch_model.bin").write_bytes(b"")


def garbled_config(folder: Path) -> None:
    (folder / "open_clip_config.json").write_text("{")


def other_config(folder: Path) -> None:
    (folder / "open_clip_config.json").write_text('{"architectures": ["CLIPModel"]}')


def other_architecture(folder: Path) -> None:
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["embed_dim"] = 48
    (folder / "open_clip_config.json").write_text(json.dumps(config))


def unknown_setting(folder: Path) -> None:
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["vision_cfg"]["no_such_setting"] = 1
    (folder / "open_clip_config.json").write_text(json.dumps(config))


def two_weights(folder: Path) -> None:
    (folder / "open_clip_model.safetensors").rename(folder / "a.safetensors")
    shutil.copy(folder / "a.safetensors", folder / "b.safetensors")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (no_config, "has no open_clip_config.json"),
        (no_weights, "holds no weights"),
        (cut_weights, "cannot be loaded"),
        (cut_archive, "damaged or truncated"),
        (empty_weights, "cannot be loaded"),
        (garbled_config, "cannot be read as JSON"),
        (other_config, "has no model_cfg"),
        (other_architecture, "weights are of another architecture"),
        (unknown_setting, "cannot be loaded"),
        (two_weights, "name one: a.safetensors, b.safetensors"),
    ],
)
def test_a_folder_that_cannot_be_loaded_is_one_line(
    damage: Callable[[Path], None], said: str, tmp_path: Path
) -> None:
    folder = write_folder(tmp_path / "damaged")
    damage(folder)
    with pytest.raises(InputError) as caught:
        opened(folder)
    assert said in str(caught.value)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_loading_leaves_the_loggers_as_they_were(folder: Path) -> None:
    """open_clip logs by functions that give the root logger a handler of their own."""
    root = logging.getLogger()
    before = root.handlers[:]
    opened(folder)
    assert root.handlers == before


def test_options_without_meaning_are_refused(folder: Path) -> None:
    with pytest.raises(InputError, match=r"a revision \('main'\) applies only to hf-hub: names"):
        opened(folder, revision="main")
    with pytest.raises(InputError, match="device 'no-such-device' cannot be used here"):
        opened(folder, device="no-such-device")
    with pytest.raises(InputError, match="needs long_text 'stretch'"):
        opened(folder, max_length=20)
    assert opened(folder, max_length=40, device="cpu").space.max_length == 40
    with pytest.raises(InputError, match="unknown long_text 'chnk'; use cut, chunk, chunk-max"):
        opened(folder, long_text="chnk")
    with pytest.raises(InputError, match="encoder 'static': unknown long_text 'chunk'"):
        resolve("static", EncoderOptions(long_text="chunk"))
    assert resolve("static", EncoderOptions(long_text="cut")).space == resolve("static").space


def test_a_missing_library_names_the_extra() -> None:
    import retr

    paths = [str(Path(next(iter(retr.__path__))).parent), *(entry for entry in sys.path if entry)]
    code = f"""
import sys
sys.path[:0] = {paths!r}
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name in ("open_clip", "PIL"):
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
from retr.retrieval.encoders import resolve
from retr.retrieval.values.images import open_image
for ask in (lambda: resolve("clip:ViT-B-32/openai"), lambda: open_image("a.png")):
    try:
        ask()
    except Exception as error:
        print(error)
"""
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert said.stdout.splitlines() == [
        "the encoder clip:ViT-B-32/openai needs an extra: pip install 'retr[clip]'",
        "reading images needs an extra: pip install 'retr[clip]'",
    ]


# ---------------------------------------------------------------- the hub

from .test_st_encoder import Hub, hub, write  # noqa: E402, F401


def test_a_model_is_fetched_once_and_then_needs_no_hub(
    hub: Hub,  # noqa: F811
    folder: Path,
    encoder: ClipEncoder,
) -> None:
    hub.folder = folder
    fetched = opened("hf-hub:somebody/tiny")
    assert hub.asked > 0
    assert same(fetched, encoder)
    assert fetched.name == "clip:hf-hub:somebody/tiny"
    hub.asked = 0
    assert same(opened("hf-hub:somebody/tiny"), encoder)
    assert hub.asked == 0


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (404, "RepoNotFound", "there is no such model on the hub"),
        (403, "GatedRepo", "the model is gated"),
        (404, "RevisionNotFound", "has no revision 'v9'"),
        (404, "EntryNotFound", "is not an open_clip model: it has no open_clip_config.json"),
    ],
)
def test_what_the_hub_says_becomes_one_line(
    hub: Hub,  # noqa: F811
    status: int,
    code: str,
    said: str,
) -> None:
    hub.status, hub.code = status, code
    with pytest.raises(InputError) as caught:
        opened("hf-hub:somebody/something", revision="v9")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_text_tower_of_transformers(tmp_path: Path) -> None:
    """As BiomedCLIP and multilingual models have: BERT, its tokenizer, a projection."""
    bert = write(tmp_path / "bert")
    parts: dict[str, Any] = {
        "text_cfg": {
            "hf_model_name": str(bert),
            "hf_tokenizer_name": str(bert),
            "hf_proj_type": "linear",
            "hf_pooler_type": "cls_pooler",
            "context_length": 24,
        }
    }
    torch.manual_seed(0)
    model = open_clip.CustomTextCLIP(**{**TINY, **parts}).eval()
    folder = tmp_path / "custom"
    folder.mkdir()
    save_safe(folder / "open_clip_model.safetensors", model)
    config = {**TINY, **parts, "custom_text": True}
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": config, "preprocess_cfg": OPENAI})
    )
    encoder = opened(folder)
    assert encoder.space.max_length == 24
    texts = ["heat transfer", "one two three four five " * 9, "query"]
    tokenizer = open_clip.tokenizer.HFTokenizer(str(bert), context_length=24)
    with torch.no_grad():
        read = model.encode_text(tokenizer(texts), normalize=True).numpy()
    np.testing.assert_allclose(encoder.encode_documents(texts), read, atol=1e-5)
    assert encoder.long_texts == 1
    chunked = opened(folder, long_text="chunk")
    windows = chunked._tokens.windows(texts[1])
    assert len(windows) > 2 and " ".join(windows) == texts[1].strip()
    mean = encoder.encode_queries(windows).mean(axis=0)
    np.testing.assert_allclose(
        chunked.encode_documents(texts)[1], mean / np.linalg.norm(mean), atol=1e-5
    )
    with pytest.raises(InputError, match="text tower is not open_clip's own"):
        opened(folder, long_text="stretch")


# ---------------------------------------------------------------- long texts


def test_texts_longer_than_read_are_counted(folder: Path) -> None:
    encoder = opened(folder)
    tokenizer = open_clip.SimpleTokenizer()
    fits = "cat " * 38
    assert len(tokenizer.encode(fits)) + 2 == 40
    encoder.encode_documents([fits, fits + "cat", LONG, "short"])
    assert encoder.long_texts == 2
    encoder.encode_queries([LONG])
    assert encoder.long_texts == 2, "of documents only"


def test_tokens_are_the_tokenizers_own() -> None:
    tokenizer = open_clip.SimpleTokenizer(context_length=40)
    rows, counts = Tokens(tokenizer, 40).rows([*TEXTS, LONG])
    assert torch.equal(rows, tokenizer([*TEXTS, LONG]))
    assert counts == [len(tokenizer.encode(text)) + 2 for text in [*TEXTS, LONG]]


def test_a_chunked_text_is_the_mean_or_maximum_of_its_windows(
    folder: Path, encoder: ClipEncoder
) -> None:
    mean, most = opened(folder, long_text="chunk"), opened(folder, long_text="chunk-max")
    windows = mean._tokens.windows(LONG)
    assert len(windows) >= 3
    assert " ".join(windows) == LONG.strip()
    parts = encoder.encode_queries(windows)
    for chunked, whole in ((mean, parts.mean(axis=0)), (most, parts.max(axis=0))):
        expected = np.concatenate(
            [encoder.encode_queries(TEXTS), whole[None] / np.linalg.norm(whole)]
        )
        np.testing.assert_allclose(chunked.encode_documents([*TEXTS, LONG]), expected, atol=1e-5)
        np.testing.assert_allclose(chunked.encode_queries([*TEXTS, LONG]), expected, atol=1e-5)
        assert chunked.long_texts == 1
    assert len({mean.space, most.space, encoder.space}) == 3
    assert mean.space.revision == encoder.space.revision
    assert mean.options.to_json() == {"long_text": "chunk"}


@settings(max_examples=30, deadline=None)
@given(
    some.one_of(
        some.text(max_size=300),
        some.lists(some.sampled_from(["cat", "electroencephalography", "速い茶色", "é"])).map(
            " ".join
        ),
        some.integers(40, 200).map(lambda n: "0123456789abcdef" * n),
    )
)
def test_windows_are_read_whole_and_leave_nothing_out(text: str) -> None:
    tokens = Tokens(open_clip.SimpleTokenizer(context_length=20), 20)
    windows = tokens.windows(text)
    assert windows
    assert "".join("".join(windows).split()) == "".join(text.split())
    counted = zip(windows, tokens.counts(windows), strict=True)
    assert all(count <= 20 or len(window) < 2 for window, count in counted)


def test_positions_are_stretched_as_in_long_clip() -> None:
    """The loop of Long-CLIP's own code (model/longclip.py, `load_from_clip`), for 77 to 248."""
    positions = torch.randn(77, 6, generator=torch.Generator().manual_seed(0))
    length, keep = 77, 20
    expected = torch.zeros(4 * length - 3 * keep, 6)
    expected[:keep] = positions[:keep]
    for i in range(length - 1 - keep):
        one, next_one = positions[i + keep], positions[i + 1 + keep]
        for part in range(4):
            expected[4 * i + part + keep] = (4 - part) * one / 4 + part * next_one / 4
    last, before = positions[length - 1], positions[length - 2]
    for part in range(4):
        expected[4 * length - 3 * keep - 4 + part] = last + part * (last - before) / 4
    stretched = stretched_positions(positions, 248)
    assert stretched.shape == (248, 6)
    torch.testing.assert_close(stretched, expected, atol=1e-5, rtol=0)


def test_a_stretched_model_reads_more(folder: Path, encoder: ClipEncoder, tmp_path: Path) -> None:
    stretched = opened(folder, long_text="stretch")
    assert stretched.space.max_length == 20 + 4 * 20
    assert stretched.space != encoder.space
    # What fits into the first 20 positions has the vector it had.
    short = ["a photo of a cat", "x"]
    np.testing.assert_allclose(
        stretched.encode_queries(short), encoder.encode_queries(short), atol=1e-5
    )
    np.testing.assert_allclose(
        stretched.encode_images(IMAGES), encoder.encode_images(IMAGES), atol=1e-6
    )
    # The rest against a model that open_clip makes with so many positions, given the same.
    model, config = tiny_model()
    bigger = open_clip.CLIP(**{**config, "text_cfg": {**config["text_cfg"], "context_length": 60}})
    weights = model.state_dict()
    weights["positional_embedding"] = stretched_positions(weights["positional_embedding"], 60)
    bigger.load_state_dict(weights)
    with torch.no_grad():
        rows = open_clip.SimpleTokenizer(context_length=60)([LONG])
        expected = bigger.eval().encode_text(rows, normalize=True).numpy()
    to_60 = opened(folder, long_text="stretch", max_length=60)
    np.testing.assert_allclose(to_60.encode_queries([LONG]), expected, atol=1e-5)
    assert to_60.options.to_json() == {"long_text": "stretch", "max_length": 60}
    far = "cat " * 50 + "dog"
    assert not np.allclose(to_60.encode_queries([far]), to_60.encode_queries(["cat " * 50]))
    for length in (40, 30):
        with pytest.raises(InputError, match="reads 40 tokens, which cannot be stretched"):
            opened(folder, long_text="stretch", max_length=length)


def test_a_text_tower_of_its_own_is_stretched_too(tmp_path: Path) -> None:
    """As CoCa and SigLIP have: the tower is a module, one with a token of the class at the end."""
    for name, more in (("own", {}), ("cls", {"embed_cls": True})):
        parts = {"text_cfg": {**TINY["text_cfg"], **more}, "custom_text": True}
        torch.manual_seed(0)
        config = {**TINY, **parts}
        model = open_clip.CustomTextCLIP(**{k: v for k, v in config.items() if k != "custom_text"})
        folder = tmp_path / name
        folder.mkdir()
        save_safe(folder / "open_clip_model.safetensors", model)
        (folder / "open_clip_config.json").write_text(
            json.dumps({"model_cfg": config, "preprocess_cfg": OPENAI})
        )
        plain, stretched = opened(folder), opened(folder, long_text="stretch")
        assert stretched.space.max_length == 100
        vectors = stretched.encode_queries(["a photo of a cat", LONG])
        np.testing.assert_allclose(
            vectors[0], plain.encode_queries(["a photo of a cat"])[0], atol=1e-5
        )
        assert not np.allclose(vectors[1], plain.encode_queries([LONG])[0], atol=1e-3)


def test_a_word_without_end_takes_no_time(encoder: ClipEncoder) -> None:
    """Byte-pair encoding takes time in the square of a word's length."""
    chunked = replace(encoder.options, long_text="chunk")
    vectors: NDArray[np.float32] = encoder.encode_documents(["x" * 300_000, "茶" * 50_000])
    assert np.isfinite(vectors).all()
    another: Encoder = resolve(encoder.name, chunked)
    assert np.isfinite(another.encode_documents(["茶色の狐" * 600])).all()


def test_a_build_reports_texts_that_were_too_long(folder: Path, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    import retr
    from retr.cli import app

    docs = tmp_path / "docs.jsonl"
    docs.write_text("\n".join(json.dumps({"id": n, "text": t}) for n, t in enumerate(["x", LONG])))
    index = tmp_path / "docs.retr"
    build = ["index", "build", str(docs), "--index", str(index), "--encoder", f"clip:{folder}"]
    ran = CliRunner().invoke(app, [*build, "--json"])
    assert ran.exit_code == 0
    assert json.loads(ran.stdout.splitlines()[-1])["long_texts"] == 1
    assert "1 text longer than the encoder reads: cut, see --long-text" in ran.stderr
    ran = CliRunner().invoke(app, [*build[:-1], f"clip:{folder}", "--long-text", "chunk"])
    assert "pooling chunk" in str(ran.exception), "another space: both are told"
    again = tmp_path / "chunked.retr"
    build[build.index("--index") + 1] = str(again)
    ran = CliRunner().invoke(app, [*build, "--long-text", "chunk", "--json"])
    assert "1 text longer than the encoder reads: averaged over windows" in ran.stderr
    collection = retr.open(again)
    assert collection.encoder.options.long_text == "chunk"
    hit = collection.search(LONG, 1, mode="dense")[0]
    assert (hit.id, round(hit.score, 4)) == ("1", 1.0)
