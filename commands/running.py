"""Running a command: what typer makes of a command line, and what is said of a wrong one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import typer

from ..retrieval.values.errors import InputError

# Usage errors are click's: its package to older releases of typer, a copy inside to newer ones.
_ClickError = cast(type[Exception], typer.BadParameter.__mro__[2])


def run(app: typer.Typer, arguments: Sequence[str]) -> int:
    """Run one command of an app and return its exit code.

    Raises:
        InputError: the command line is wrong.
        RetrError: the command cannot do what it says, for a reason that the user can put right.
    """
    try:
        command = typer.main.get_command(app)
        with command.make_context("retr", list(arguments)) as context:
            command.invoke(context)
    except typer.Exit as end:
        return int(end.exit_code)
    except _ClickError as error:
        raise InputError(_usage(error)) from error
    return 0


def _usage(error: Any) -> str:
    """Return what is wrong with a command line, and how to see its help."""
    message = str(error.format_message()).strip().rstrip(".")
    context = getattr(error, "ctx", None)
    return message if context is None else f"{message}; see: {context.command_path} --help"
