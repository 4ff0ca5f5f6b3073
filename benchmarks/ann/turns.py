"""Processes that take turns: all are open, and one works at a time.

Beside other work a machine is now faster and now slower, by a half and more, for minutes. What is
measured one after the other is then measured on unlike machines. So the processes that `retr
bench ann` compares go on by turns of a quarter of a second: a byte on its input lets one work, and
a byte on a pipe says that it rests. One whose parent has died finds its input at an end, and ends.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from .process import variables

_SECONDS: Final = 0.25  # a turn, to the end of what is being measured
_WORKER: Final = "retr.benchmarks.ann.worker"


class Turn:
    """The side of the process that works.

    pipe: the descriptor on which to say that it rests; None if it works by itself.
    """

    def __init__(self, pipe: int | None = None) -> None:
        self._pipe = pipe
        self._began = time.monotonic()

    def rest(self, *, at_once: bool = False) -> bool:
        """Let others work if the turn is over, and return whether it was."""
        if self._pipe is None or not (at_once or time.monotonic() - self._began >= _SECONDS):
            return False
        os.write(self._pipe, b".")
        if not os.read(0, 1):
            raise SystemExit("the process that this one worked for has ended")
        self._began = time.monotonic()
        return True


class Worker:
    """The parent's side of one process.

    timeout: seconds that it may work.
    ended:   how it ended, in words; None while it has not.
    """

    def __init__(self, job: Path, threads: int, timeout: float, log: Path) -> None:
        self._timeout = self._left = timeout
        self.ended: str | None = None
        self._pipe, theirs = os.pipe()
        command = [sys.executable, "-m", _WORKER, str(job), str(theirs)]
        environment = {**os.environ, **variables(threads)}
        with log.open("wb") as output:
            # In a session of its own, so that what it may have started ends with it; from another
            # folder, so that nothing is imported from the working directory.
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=output, stderr=output, env=environment,
                cwd="/", start_new_session=True, pass_fds=(theirs,),
            )  # fmt: skip
        os.close(theirs)
        self._works = True

    def turn(self) -> bool:
        """Let it work until it rests or ends; return whether it rests."""
        if self.ended is not None:
            return False
        begin = time.monotonic()
        if not self._works:
            assert self._process.stdin is not None
            with contextlib.suppress(BrokenPipeError):  # it has ended, as is seen below
                os.write(self._process.stdin.fileno(), b".")
            self._works = True
        if not select.select([self._pipe], [], [], max(0.0, self._left))[0]:
            self.end(f"took more than {self._timeout:g} s")
            return False
        self._left -= time.monotonic() - begin
        if os.read(self._pipe, 1):
            self._works = False
            return True
        try:
            status = self._process.wait(max(1.0, self._left))
        except subprocess.TimeoutExpired:
            self.end(f"took more than {self._timeout:g} s")
            return False
        died = status < 0
        self.end(
            f"died of {signal.Signals(-status).name}" if died else f"ended with status {status}"
        )
        return False

    def end(self, how: str = "was ended") -> None:
        """End it if it has not ended, with all processes it started."""
        if self.ended is not None:
            return
        self.ended = how
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()
        os.close(self._pipe)


def take_turns(workers: Sequence[Worker], ended: Callable[[Worker], None] = lambda _: None) -> None:
    """Let each work by turns until all have ended; `ended` is called with each that has."""
    try:
        working = list(workers)
        while working:
            for worker in [each for each in working if not each.turn()]:
                working.remove(worker)
                ended(worker)
    finally:
        for worker in workers:
            worker.end()
