"""A process that opens images for an encoder: jobs come on stdin, arrays go to stdout.

It is a process, not a thread, because a broken file may crash the decoder. It is spawned, not
forked, so that it holds no lock of its parent's, and started by an explicit command, so that a
user's script needs no `if __name__ == "__main__"`. It imports neither torch nor the encoder.

Both directions carry pickles, between two processes of one program. First comes the encoder's
`prepare`, answered by `READY`; then lists of images, each answered by a `Decoded` or a traceback.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..values.images import UnreadableImageError, open_image

if TYPE_CHECKING:
    from numpy.typing import NDArray

READY = "ready"
NICE = 5


@dataclass(frozen=True, slots=True)
class Decoded:
    """The result of decoding a list of images.

    arrays:  the readable images, stacked in order; None if none was readable.
    reasons: for each image, why it could not be read; None if it could.
    """

    arrays: NDArray[Any] | None
    reasons: list[str | None]


def decode(prepare: Callable[[Any], NDArray[Any]], images: Sequence[Any]) -> Decoded:
    """Open images and prepare them for an encoder."""
    import numpy as np

    arrays: list[NDArray[Any]] = []
    reasons: list[str | None] = []
    for image in images:
        try:
            opened = open_image(image)
        except UnreadableImageError as error:
            reasons.append(error.reason)
            continue
        arrays.append(prepare(opened))
        reasons.append(None)
    return Decoded(np.stack(arrays) if arrays else None, reasons)


def main() -> None:
    """Answer jobs until there is no more input."""
    from PIL import Image

    # Ctrl-C reaches every process of the terminal; the parent is the one to end this.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        os.nice(NICE)  # the encoder comes first; when it waits for images, the cores are free
    Image.MAX_IMAGE_PIXELS = None  # `open_image` has its own limit and does not warn
    jobs, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # keeps prints of other code out of the answers
    try:
        prepare = pickle.load(jobs)
    except Exception:  # defined in a notebook, or in a module that only the parent can import
        _answer(answers, traceback.format_exc())
        return
    _answer(answers, READY)
    while True:
        try:
            images = pickle.load(jobs)
        except EOFError:
            return
        try:
            answer: Decoded | str = decode(prepare, images)
        except Exception:  # sent to the parent, which raises it
            answer = traceback.format_exc()
        _answer(answers, answer)


def _answer(answers: Any, answer: object) -> None:
    pickle.dump(answer, answers, protocol=pickle.HIGHEST_PROTOCOL)
    answers.flush()
