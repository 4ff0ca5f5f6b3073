"""Images through processes that decode: the same vectors, in order, whatever lies between."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from retr.retrieval.encoders.clip_preparation import Preparation
from retr.retrieval.values.errors import InputError
from retr.retrieval.values.images import UnreadableImageError
from retr.retrieval.writing.image_pipeline import ImagePipeline, Unreadable, encode_stream

from .broken_images import encoded, photograph, write_all
from .toys import ToyImageEncoder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], set[Path]]:
    """Write 70 photographs, and every kind of image, good and bad, among them."""
    root = tmp_path_factory.mktemp("images")
    for number in range(70):
        photograph(number).save(root / f"{number:03}.png")
    _, broken = write_all(root)
    paths = sorted(root.iterdir())
    return paths, set(broken)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_vectors_are_those_of_the_images_one_by_one(
    folder: tuple[list[Path], set[Path]], workers: int
) -> None:
    paths, broken = folder
    encoder = ToyImageEncoder()
    with ImagePipeline[Path](encoder, workers=workers) as pipeline:
        found = [each for path in paths for each in pipeline.put(path, path)] + pipeline.drain()
        report = pipeline.report
    assert [path for path, _ in found] == paths
    for path, vector in found:
        if path in broken:
            assert isinstance(vector, Unreadable)
            with pytest.raises(UnreadableImageError) as caught:
                encoder.encode_images([path])
            assert vector.reason == caught.value.reason
        else:
            assert not isinstance(vector, Unreadable)
            assert np.array_equal(vector, encoder.encode_images([path])[0])
    assert (report.images, report.unreadable) == (len(paths) - len(broken), len(broken))
    assert report.crashes == 0


def test_every_form_of_image_is_sent(tmp_path: Path) -> None:
    image = photograph(3)
    path = tmp_path / "a.png"
    image.save(path)
    forms = [path, str(path), path.read_bytes(), image, np.asarray(image)] * 4
    encoder = ToyImageEncoder()
    vectors = [vector for _, vector in encode_stream(encoder, enumerate(forms), workers=2)]
    assert np.array_equal(np.stack(vectors), np.repeat(vectors[:1], 20, axis=0))
    assert np.array_equal(encoder.encode_images(forms), np.stack(vectors))


def test_the_encoder_gets_full_batches() -> None:
    encoder = ToyImageEncoder()
    images = [photograph(0)] * 101
    assert len(list(encode_stream(encoder, enumerate(images), workers=2))) == 101
    assert sum(encoder.batches) == 101
    assert min(encoder.batches[:-1]) >= encoder.image_batch_size


def test_the_source_is_not_read_far_ahead() -> None:
    """What is on its way is bounded, however slow the reader of the vectors is."""
    taken = 0

    def source() -> Iterator[tuple[int, Image.Image]]:
        nonlocal taken
        for number in range(5000):
            taken += 1
            yield number, photograph(0)

    stream = encode_stream(ToyImageEncoder(), source(), workers=2)
    for number in range(200):
        assert next(stream)[0] == number
    assert taken < 400
    stream.close()


def test_large_images_in_memory_are_bounded_by_their_bytes() -> None:
    taken = 0
    big = np.zeros((4000, 4000, 3), np.uint8)  # 48 MB

    def source() -> Iterator[tuple[int, Any]]:
        nonlocal taken
        for number in range(100):
            taken += 1
            yield number, big

    encoder = ToyImageEncoder()
    encoder.image_batch_size = 2
    stream = encode_stream(encoder, source(), workers=2)
    next(stream)
    assert taken <= 12
    stream.close()


def test_few_images_start_no_process() -> None:
    with ImagePipeline[int](ToyImageEncoder()) as pipeline:
        assert pipeline.put(0, photograph(0)) == []
        assert [tag for tag, _ in pipeline.drain()] == [0]
        assert not _children()


def test_an_image_that_kills_its_process_is_skipped_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deadly.py").write_text(
        textwrap.dedent(
            """
            import os, signal
            from retr.retrieval.encoders.clip_preparation import Preparation

            def prepare(image):
                if image.size == (13, 13):
                    os.kill(os.getpid(), signal.SIGSEGV)
                return Preparation(4, 4)(image)
            """
        )
    )
    monkeypatch.syspath_prepend(tmp_path)
    import deadly

    encoder = ToyImageEncoder()
    encoder.prepare = deadly.prepare
    images = [photograph(number) for number in range(60)]
    deadly_ones = {7, 8, 41}
    for number in deadly_ones:
        images[number] = photograph(number, (13, 13))
    with ImagePipeline[int](encoder, workers=2) as pipeline:
        found = dict(
            [each for tag, image in enumerate(images) for each in pipeline.put(tag, image)]
            + pipeline.drain()
        )
        assert pipeline.report.crashes >= 3
    assert {tag for tag, made in found.items() if isinstance(made, Unreadable)} == deadly_ones
    assert found[7] == Unreadable("crashes the process that decodes it (signal 11)")


def test_an_image_that_cannot_be_sent_is_opened_here() -> None:
    """A PIL image is read when it is needed, and a view of memory is not sent at all."""
    data = encoded(photograph(1), "PNG")
    images: list[Any] = [photograph(number) for number in range(30)]
    images[5] = Image.open(io.BytesIO(data[: len(data) // 2]))
    images[21] = memoryview(data)
    with ImagePipeline[int](ToyImageEncoder(), workers=2) as pipeline:
        found = [each for tag, i in enumerate(images) for each in pipeline.put(tag, i)]
        found += pipeline.drain()
        assert pipeline.report.crashes == 0
    made = dict(found)
    broken = [tag for tag, vector in made.items() if isinstance(vector, Unreadable)]
    assert broken == [5] and "damaged" in made[5].reason
    assert np.array_equal(made[21], made[1])


def test_what_no_other_process_can_import_is_decoded_all_the_same() -> None:
    encoder = ToyImageEncoder()
    expected = encoder.encode_images([photograph(number) for number in range(40)])
    encoder.prepare = lambda image: Preparation(4, 4)(image)  # type: ignore[assignment]
    items = ((number, photograph(number)) for number in range(40))
    found = [vector for _, vector in encode_stream(encoder, items, workers=2)]
    assert np.array_equal(np.stack(found), expected)


def test_a_defect_in_prepare_is_no_broken_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "defective.py").write_text("def prepare(image):\n    return image.no_such_thing\n")
    monkeypatch.syspath_prepend(tmp_path)
    import defective

    encoder = ToyImageEncoder()
    encoder.prepare = defective.prepare
    items = [(number, photograph(number)) for number in range(40)]
    with pytest.raises(RuntimeError, match="no_such_thing"):
        list(encode_stream(encoder, items, workers=2))
    assert not _children()


def test_leaving_early_ends_every_process() -> None:
    stream = encode_stream(
        ToyImageEncoder(), ((n, photograph(n)) for n in range(10_000)), workers=2
    )
    next(stream)
    assert len(_children()) == 2
    stream.close()
    assert not _children()


def test_a_plain_script_needs_no_main_guard(tmp_path: Path) -> None:
    """Processes are started anew, yet they never run the user's script again."""
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    for number in range(40):
        (photographs / f"{number}.jpg").write_bytes(encoded(photograph(number), "JPEG"))
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            f"""
            from pathlib import Path
            import numpy as np
            from retr.retrieval.encoders import ImageEncoder, Space
            from retr.retrieval.writing.image_pipeline import encode_stream

            class Mine(ImageEncoder):
                family = "mine"
                name = "mine"
                space = Space("mine", "mine", "1", 3, False, "ip")
                open = classmethod(lambda cls, name, options: cls())
                encode_queries = encode_documents = lambda self, items: None

                @property
                def prepare(self):
                    return of_an_image

                def encode_prepared(self, arrays):
                    return arrays

            def of_an_image(image):
                return np.asarray(image, np.float32).mean(axis=(0, 1))

            print("once")
            paths = sorted(Path({str(photographs)!r}).iterdir())
            print(sum(1 for _ in encode_stream(Mine(), enumerate(paths), workers=2)))
            """
        )
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    ran = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, env=environment, timeout=60
    )
    assert (ran.stdout, ran.returncode) == ("once\n40\n", 0), ran.stderr


def test_one_image_is_not_taken_for_several() -> None:
    for one in ("a.png", Path("a.png"), b"bytes", photograph(0)):
        with pytest.raises(InputError, match="list of images"):
            ToyImageEncoder().encode_images(one)  # type: ignore[arg-type]
    assert ToyImageEncoder().encode_images([]).shape == (0, 4)
    with pytest.raises(UnreadableImageError, match=r"gone\.png: there is no such file"):
        ToyImageEncoder().encode_images([photograph(0), "gone.png"])


def _children() -> set[int]:
    """Return the processes that this one has started and that still run."""
    if not Path("/proc/self/stat").exists():
        pytest.skip("no /proc to find processes in")
    found = set()
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent = file.read_text().rpartition(")")[2].split()[:2]
            if int(parent) == os.getpid() and state != "Z":
                found.add(int(file.parent.name))
    return found
