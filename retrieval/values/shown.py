"""Single values as text for people: scores, paths, untrusted text."""

from __future__ import annotations

import os
import re


def score_text(score: float) -> str:
    """Return a score in a few characters."""
    return f"{score:.4f}" if abs(score) < 1000 else f"{score:.6g}"


def shorter_path(path: str) -> str:
    """Return a path relative to the current folder if that is shorter."""
    if not path.startswith("/"):
        return path
    try:
        relative = os.path.relpath(path)
    except (OSError, ValueError):  # the current folder is gone
        return path
    return relative if len(relative) < len(path) else path


# C0 control characters become their visible pictures.
_PICTURES = {code: chr(0x2400 + code) for code in range(0x20)} | {0x7F: "\u2421"}


_REPLACED = {*range(0x80, 0xA0), 0x2028, 0x2029, *range(0xD800, 0xE000)}


# Direction overrides and isolates, invisible characters of uncertain width, tags.
_REMOVED = {
    0xAD,
    0x200B,
    0x2060,
    0xFEFF,
    *range(0x202A, 0x202F),
    *range(0x2066, 0x206A),
    *range(0xFFF9, 0xFFFC),
    *range(0xE0000, 0xE0080),
}


_PLAIN: dict[int, str | None] = {
    **_PICTURES,
    **dict.fromkeys(_REPLACED, "\ufffd"),
    **dict.fromkeys(_REMOVED, None),
}


def plain(text: str, encoding: str | None = None) -> str:
    """Return a text that is safe to print: a terminal shows it and obeys nothing in it.

    encoding: the terminal's; characters it lacks become "?". None stands for UTF-8.
    """
    shown = text.translate(_PLAIN)
    if encoding is not None and not is_utf8(encoding):
        return shown.replace("…", "...").encode(encoding, "replace").decode(encoding)
    return shown


def one_line(message: str) -> str:
    """Return a message as one line that is safe to print."""
    return plain(re.sub(r"\s*[\r\n]\s*", " ", message.strip()))


def is_utf8(encoding: str) -> bool:
    """Return whether an encoding is UTF-8, by any of its names."""
    return encoding.lower().replace("-", "").replace("_", "") in ("utf8", "utf8sig")


def counted(number: int, one: str, many: str | None = None) -> str:
    """Return a number with its noun in the right form."""
    return f"{number:,} {one}" if number == 1 else f"{number:,} {many or one + 's'}"


def size(count: int) -> str:
    """Return a number of bytes for people, in powers of 1000."""
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    return f"{count} B" if unit == "B" else f"{value:.3g} {unit}"


def duration(seconds: float) -> str:
    """Return a time for people."""
    if seconds < 0.9995:
        return f"{max(seconds * 1000, 1):.0f} ms"
    if seconds < 59.5:
        return f"{seconds:.2g} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
