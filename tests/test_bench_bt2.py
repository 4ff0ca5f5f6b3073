"""BT²'s protocol on images: what is read, what is measured, and that nothing of new/new is lost."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from retr.benchmarks.upgrades import bt2, bt2_data
from retr.benchmarks.upgrades.bt2_data import Labelled
from retr.benchmarks.upgrades.bt2_encoders import Recipe
from retr.retrieval.values.errors import DamagedError, InputError

Image = pytest.importorskip("PIL.Image")
COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 200, 40),
    "blue": (40, 60, 220),
    "grey": (99, 99, 99),
}


def picture(colour: tuple[int, int, int], seed: int) -> NDArray[np.uint8]:
    noise = np.random.default_rng(seed).integers(-30, 30, (40, 48, 3))
    return np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)


def write_classes(folder: Path, each: int) -> None:
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for i in range(each):
            Image.fromarray(picture(colour, i)).save(folder / name / f"{i}.png")


def record(coarse: int, fine: int, red: int, green: int, blue: int) -> bytes:
    planes = [bytes([value]) * 1_023 + bytes([7]) for value in (red, green, blue)]
    return bytes([coarse, fine]) + b"".join(planes)


@pytest.fixture
def cifar(tmp_path: Path) -> Path:
    inside = tmp_path / "cifar-100-binary"
    inside.mkdir()
    train = [record(3, 99, 1, 2, 3), record(3, 5, 4, 5, 6), record(3, 5, 8, 8, 8)]
    (inside / "train.bin").write_bytes(b"".join(train))
    (inside / "test.bin").write_bytes(record(0, 5, 9, 10, 11))
    return tmp_path


def test_cifar_100_is_read_from_its_binary_version(cifar: Path) -> None:
    data = bt2_data.cifar100(cifar, most=None)
    assert data.images.shape == (4, 32, 32, 3)
    assert data.images[0, 0, 0].tolist() == [1, 2, 3]
    assert data.images[3, 5, 6].tolist() == [9, 10, 11]
    assert data.images[1, 31, 31].tolist() == [7, 7, 7]
    assert data.labels.tolist() == [99, 5, 5, 5]
    assert (data.split, data.classes) == (3, 100)
    few = bt2_data.cifar100(cifar / "cifar-100-binary", most=1)
    assert (few.labels.tolist(), few.split) == ([99, 5, 5], 2)
    assert "1 left out" in few.title


def test_cifar_100_that_is_damaged_or_another_is_named(cifar: Path) -> None:
    train = cifar / "cifar-100-binary" / "train.bin"
    whole = train.read_bytes()
    train.write_bytes(whole[:-1])
    with pytest.raises(DamagedError, match=r"train\.bin: 9,221 bytes are not records of 3,074"):
        bt2_data.cifar100(cifar)
    train.write_bytes(whole[:1] + bytes([180]) + whole[2:])
    with pytest.raises(DamagedError, match="has a label 180, above 99"):
        bt2_data.cifar100(cifar)
    train.unlink()
    with pytest.raises(InputError, match=r"train\.bin: there is no such file; --data names"):
        bt2_data.cifar100(cifar)


def test_emoji_are_read_by_subgroup_without_skin_tones(tmp_path: Path) -> None:
    listing = []
    (tmp_path / "png").mkdir()
    for name, colour in COLOURS.items():
        for i in range(14):
            plain = [(f"{name} {i}", True), (f"{name} {i}: dark skin tone", True)]
            for shown, there in [*plain, (f"{name} {i} of another font", False)]:
                listing.append({"name": shown, "subgroup": name})
                if there:
                    file = tmp_path / "png" / f"{shown}.png"
                    Image.fromarray(picture(colour, i)).save(file)
    for i in range(bt2_data.FEWEST_IMAGES - 1):
        listing.append({"name": f"rare {i}", "subgroup": "rare"})
        Image.fromarray(picture((1, 2, 3), i)).save(tmp_path / "png" / f"rare {i}.png")
    (tmp_path / "emoji-info.json").write_text(json.dumps(listing))
    data = bt2_data.twemoji(tmp_path)
    assert (data.classes, len(data.labels)) == (4, 56)
    assert data.images.shape == (56, 32, 32, 3)
    by_class = [data.images[data.labels == kind].mean(axis=(0, 1, 2)) for kind in range(4)]
    for mean, name in zip(by_class, sorted(COLOURS), strict=True):
        assert mean == pytest.approx(np.array(COLOURS[name]), abs=6)


def test_a_folder_needs_classes_with_images(tmp_path: Path) -> None:
    write_classes(tmp_path, 11)
    with pytest.raises(InputError, match="0 classes have 12 images or more; give at least 4"):
        bt2_data.folder_of_classes(tmp_path)
    with pytest.raises(InputError, match="is no folder"):
        bt2_data.folder_of_classes(tmp_path / "none")


def test_a_search_in_blocks_measures_what_whole_scores_do() -> None:
    random = np.random.default_rng(0)
    queries, gallery = random.standard_normal((2, 1_100, 6)).astype(np.float32)
    labels = random.integers(0, 9, 1_100)
    whole = bt2.retrieval(queries @ gallery.T, labels)
    assert bt2.searched(queries, gallery, labels) == pytest.approx(whole, abs=1e-9)


def test_the_protocol_from_a_folder_to_the_table(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    write_classes(tmp_path / "colours", 30)
    data = bt2_data.folder_of_classes(tmp_path / "colours")
    small = Recipe(4, 6, 512), Recipe(4, 8, 1_024)
    result = bt2.run(data, seeds=2, trainings=small)
    rows = {name: values["mean"] for name, values in result["rows"].items()}
    assert rows["new/new, independent"][0] > 80  # four colours, plain as day
    assert rows["new/new, in the common space"] == pytest.approx(
        rows["new/new, independent"], abs=0.5
    )
    assert rows["new/old, no bridge"][2] < rows["new/old, gallery mapped forward"][2]
    each = result["rows"]["old/old"]
    assert each["mean"] == pytest.approx(np.mean(each["seeds"], axis=0), abs=0.01)
    assert each["deviation"] == pytest.approx(np.std(each["seeds"], axis=0, ddof=1), abs=0.01)
    first = bt2.run(data, seeds=1, trainings=small)["rows"]
    assert {name: values["seeds"][0] for name, values in result["rows"].items()} == {
        name: values["mean"] for name, values in first.items()
    }
    measured, published = bt2.STUDY.tables(result)
    assert measured.title.startswith(f"{data.title}; 2 seeds")
    assert "colours, 4 classes, 120 images" in measured.title
    assert published.title.startswith("Published, of CIFAR-100")
    report = measured.markdown() + published.markdown()
    mean, deviation = (result["rows"]["old/old"][part][0] for part in ("mean", "deviation"))
    assert f"| old/old | {mean:.1f} ± {deviation:.1f} |" in report
    assert "| BT², new/old | 38.7 | 64.6 | 27.7 |" in report


def test_the_sizes_of_training_and_test_come_from_the_data() -> None:
    pytest.importorskip("torch")
    images = np.concatenate([np.full((20, 8, 8, 1), 60 * k, np.uint8) for k in range(4)] * 2)
    data = Labelled("toy", "toy", images, np.repeat([0, 1, 2, 3] * 2, 20), split=80)
    rows = bt2.run(data, 1, (Recipe(8, 4, 640), Recipe(8, 4, 640)))["rows"]
    # Equal images of a class are equal vectors: whatever the encoder, the first hit is of it.
    assert rows["old/old"]["mean"][0] == 100


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--seeds", "0"], "--seeds 0: give at least 1"),
        (["--dataset", "cifar100"], "give --data DIR, the folder of its binary version"),
        (["--images", "/nowhere/at/all"], "is no folder"),
        (["--dataset", "twemoji", "--data", "/nowhere"], "set RETR_TEST_DATA"),
    ],
)
def test_what_cannot_be_run_is_said_in_a_line(
    arguments: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        bt2.STUDY.main(arguments)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert why in said
    assert said.count("\n") == 1
