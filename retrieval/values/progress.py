"""Progress: a bar on a terminal, plain lines in a log, nothing if nobody asked."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any, Protocol

LINE_SECONDS = 10.0


class Progress(Protocol):
    """Receives reports on how far a long task has come."""

    def update(self, label: str, count: int, done: float, total: float | None) -> None:
        """Report progress.

        label: what is being done.
        count: rows so far.
        done, total: in the source's own units; total is None if it is unknown.
        """

    def __enter__(self) -> Progress: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Silent:
    """Shows nothing."""

    def update(self, label: str, count: int, done: float, total: float | None) -> None:
        """Show nothing."""

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *_: object) -> None:
        return None


class Lines:
    """Writes a line to stderr every ten seconds."""

    def __init__(self) -> None:
        self._start = self._last = time.monotonic()

    def update(self, label: str, count: int, done: float, total: float | None) -> None:
        """Write a line if the last one is ten seconds old."""
        now = time.monotonic()
        if now - self._last < LINE_SECONDS:
            return
        self._last = now
        elapsed = now - self._start
        line = f"{label}: {count:,} rows, {count / elapsed:,.0f} a second"
        if total and done:
            left = elapsed * max(total - done, 0) / done
            line += f", {100 * min(done / total, 1):.0f}%, {_duration(left)} left"
        sys.stderr.write(line + "\n")
        sys.stderr.flush()

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        return None


class Bar:
    """Draws a bar on stderr with the rate and the time left."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            TaskProgressColumn,
            TextColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as RichProgress

        self._start = time.monotonic()
        self._bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[rows]:,} rows, {task.fields[rate]:,.0f} a second"),
            TimeRemainingColumn(compact=True),
            console=Console(stderr=True),
            transient=True,
        )
        self._task: Any = None

    def update(self, label: str, count: int, done: float, total: float | None) -> None:
        """Move the bar."""
        rate = count / max(time.monotonic() - self._start, 1e-6)
        if self._task is None:
            self._task = self._bar.add_task(label, total=total, rows=count, rate=rate)
        self._bar.update(
            self._task, description=label, completed=done, total=total, rows=count, rate=rate
        )

    def __enter__(self) -> Bar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()


def choose_progress(wanted: bool | None) -> Progress:
    """Return a bar if stderr is a terminal, otherwise lines.

    wanted: False shows nothing; None shows progress on a terminal only.
    """
    terminal = sys.stderr.isatty()
    if wanted is False or (wanted is None and not terminal):
        return Silent()
    return Bar() if terminal else Lines()


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h {minutes:02d}m"
    return f"{minutes}m {rest:02d}s" if minutes else f"{rest}s"
