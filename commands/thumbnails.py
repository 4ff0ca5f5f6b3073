"""Small pictures among the hits, in terminals that can show them.

Three protocols are in use: kitty's, iTerm2's and DEC's sixels. The environment variables of a
terminal tell which one it speaks. retr never queries the terminal, because a slow answer would end
up on the command line. tmux and screen pass no pictures through by default, so there are none
inside them. `RETR_THUMBNAILS` overrides all this: kitty, iterm2, sixel, or off.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from ..retrieval.values.errors import InputError, MissingExtraError
from ..retrieval.values.images import UnreadableImageError, open_image

if TYPE_CHECKING:
    from PIL import Image

ROWS = 7
"""How many lines of text a picture is high."""
CELL = (10, 20)
"""Width and height of a character in pixels, if the terminal does not say."""
COLOURS = 128
_KITTY_CHUNK = 4096


class Protocol(StrEnum):
    """How a terminal is told to show a picture."""

    KITTY = "kitty"
    ITERM2 = "iterm2"
    SIXEL = "sixel"


def protocol_of(environment: Mapping[str, str]) -> Protocol | None:
    """Return the protocol of a terminal, or None if it shows no pictures or is unknown.

    Raises:
        InputError: `RETR_THUMBNAILS` has an unknown value.
    """
    wanted = environment.get("RETR_THUMBNAILS", "").strip().lower()
    if wanted in ("off", "0", "none"):
        return None
    if wanted and wanted != "auto":
        try:
            return Protocol(wanted)
        except ValueError:
            known = ", ".join(Protocol)
            raise InputError(f"RETR_THUMBNAILS is {wanted!r}; use {known}, off or auto") from None
    term, program = environment.get("TERM", ""), environment.get("TERM_PROGRAM", "")
    if environment.get("TMUX") or term.startswith(("screen", "tmux")) or term in ("", "dumb"):
        return None
    if "kitty" in term or environment.get("KITTY_WINDOW_ID") or "ghostty" in (program + term):
        return Protocol.KITTY
    if program in ("iTerm.app", "WezTerm", "mintty"):
        return Protocol.ITERM2
    if term.startswith(("foot", "mlterm", "yaft", "contour")):
        return Protocol.SIXEL
    return Protocol.SIXEL if environment.get("KONSOLE_VERSION", "") >= "220401" else None


def picture(image: Any, protocol: Protocol, columns: int, indent: int = 0) -> str | None:
    """Return the codes that show an image, `ROWS` lines high, and leave the cursor below it.

    columns: the available width.

    None if the image cannot be read, which should not end a search.
    """
    try:
        opened = open_image(image)
    except (UnreadableImageError, MissingExtraError):
        return None
    width, height = opened.size
    rows = ROWS
    across = max(1, round(rows * CELL[1] * width / height / CELL[0]))
    if across > columns:
        across, rows = columns, max(1, round(columns * CELL[0] * height / width / CELL[1]))
    opened.thumbnail((across * CELL[0], rows * CELL[1]))
    left = " " * indent
    match protocol:
        case Protocol.KITTY:
            return left + "".join(_kitty(_png(opened), across, rows)) + "\n"
        case Protocol.ITERM2:
            return left + _iterm2(_png(opened), across, rows) + "\n"
        case Protocol.SIXEL:
            return left + "".join(_sixels(opened)) + "\n"


def _png(image: Image.Image) -> bytes:
    import io

    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def _kitty(data: bytes, columns: int, rows: int) -> Iterator[str]:
    text = base64.b64encode(data).decode()
    for start in range(0, len(text), _KITTY_CHUNK):
        more = int(start + _KITTY_CHUNK < len(text))
        keys = f"a=T,f=100,q=2,c={columns},r={rows},m={more}" if not start else f"m={more}"
        yield f"\x1b_G{keys};{text[start : start + _KITTY_CHUNK]}\x1b\\"


def _iterm2(data: bytes, columns: int, rows: int) -> str:
    text = base64.b64encode(data).decode()
    keys = f"inline=1;size={len(data)};width={columns};height={rows};preserveAspectRatio=1"
    return f"\x1b]1337;File={keys}:{text}\x07"


def _sixels(image: Image.Image) -> Iterator[str]:
    """Yield an image as sixels: bands of six lines, in each a run of dots for every colour."""
    import numpy as np

    paletted = image.quantize(COLOURS)
    pixels = np.asarray(paletted)
    palette = np.asarray(paletted.getpalette() or []).reshape(-1, 3)
    height, width = pixels.shape
    yield f'\x1bP0;1q"1;1;{width};{height}'
    for number in np.flatnonzero(np.bincount(pixels.ravel())):
        red, green, blue = (round(100 * int(value) / 255) for value in palette[number])
        yield f"#{number};2;{red};{green};{blue}"
    for top in range(0, height, 6):
        band = pixels[top : top + 6]
        weights = (1 << np.arange(len(band)))[:, None]
        for number in np.flatnonzero(np.bincount(band.ravel())):
            yield f"#{number}{_runs(((band == number) * weights).sum(axis=0))}$"
        yield "-"
    yield "\x1b\\"


def _runs(dots: Any) -> str:
    """Return a line of sixels, repeated ones counted."""
    import numpy as np

    starts = np.flatnonzero(np.append(True, dots[1:] != dots[:-1]))
    lengths = np.diff(np.append(starts, len(dots)))
    out = []
    for dot, length in zip(dots[starts].tolist(), lengths.tolist(), strict=True):
        char = chr(63 + dot)
        out.append(f"!{length}{char}" if length > 3 else char * length)
    return "".join(out)


def choose(wanted: bool | None) -> Protocol | None:
    """Return how to show pictures on this process's terminal.

    wanted: False shows none; None those that the terminal is known to show; True says where it
            shows none.

    Raises:
        InputError: they are wanted, and the terminal is not known to show any.
    """
    if wanted is False:
        return None
    found = protocol_of(os.environ)
    if wanted and found is None:
        raise InputError(
            "--thumbnails: this terminal is not known to show pictures; if it does, say how: "
            "RETR_THUMBNAILS=kitty, iterm2 or sixel"
        )
    return found
