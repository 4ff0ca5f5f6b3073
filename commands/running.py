"""Running a command: parse a command line with typer, and report a wrong one as an InputError."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast, get_args, get_origin

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
        _read_values_plainly(command)
        with command.make_context("retr", list(arguments)) as context:
            command.invoke(context)
    except typer.Exit as end:
        return int(end.exit_code)
    except _ClickError as error:
        raise InputError(_usage(error)) from error
    return 0


def _read_values_plainly(command: Any, parent: Any = None) -> None:
    """Keep typer 0.29 and newer from importing pydantic, which takes a tenth of a second.

    They read every value by it. Where a value is a text, a number, a path or a list of them, it is
    read here instead; what cannot be read is left to typer, which says why. Older releases know no
    `type_descriptor` and are left alone.
    """
    context = typer.Context(command, parent=parent, **command.context_settings)
    for child in getattr(command, "commands", {}).values():
        _read_values_plainly(child, context)
    for parameter in command.get_params(context):
        annotation = getattr(getattr(parameter, "type_descriptor", None), "annotation", None)
        many = get_origin(annotation) is list
        read = get_args(annotation)[0] if many else annotation
        if read in (str, int, float, bool, Path):
            parameter.process_value = _reader(parameter, read, many)


def _reader(parameter: Any, read: type, many: bool) -> Callable[[Any, Any], Any]:
    by_typer = parameter.process_value

    def process(context: Any, given: Any) -> Any:
        try:
            if many:
                found: Any = [read(each) for each in given or ()]
            elif given is None or (read is bool and isinstance(given, bool)):
                found = given
            else:
                found = by_typer(context, given) if read is bool else read(given)
        except ValueError:
            return by_typer(context, given)
        if parameter.required and found in (None, []):
            return by_typer(context, given)
        callback = parameter.callback
        return found if callback is None else callback(context, parameter, found)

    return process


def _usage(error: Any) -> str:
    """Return what is wrong with a command line, and how to see its help."""
    message = str(error.format_message()).strip().rstrip(".")
    context = getattr(error, "ctx", None)
    return message if context is None else f"{message}; see: {context.command_path} --help"
