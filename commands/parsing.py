"""The values of options are converted here and not by pydantic, which typer 0.29 and later use.

Loading pydantic and building its validators takes about 90 ms of CPU time for each command, as
much as all else until a search begins. Strings, numbers and flags need none of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

import typer.core

_KINDS = (str, int, float)


def without_pydantic(command: Any, above: Any = None) -> Any:
    """Have the options of a command, and of those below it, converted here; return the command.

    Values that are neither strings nor numbers are left to typer. Before typer 0.29 there is
    nothing to do. It has no public way to say how a value is converted that does not go through
    pydantic, so this stands in for a method of its parameters: should that be gone in a release
    to come, commands parse as before, only slower.
    """
    if not hasattr(typer.core.TyperOption, "get_runtime_param"):
        return command
    context = typer.Context(command, parent=above, **command.context_settings)
    for parameter in command.get_params(context):  # with --help, which is made here
        parameter.get_runtime_param = _Conversion(parameter.get_runtime_param).itself
    for below in getattr(command, "commands", {}).values():
        without_pydantic(below, context)
    return command


@dataclass(frozen=True)
class _Conversion:
    """How a parameter's value, as it was typed, becomes the one that a command is called with.

    usual: returns typer's conversion.
    """

    usual: Callable[[], Any]

    def itself(self) -> _Conversion:
        return self

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        many = param.multiple or param.nargs == -1
        if value is None:
            return () if many else None
        kind = param.type_descriptor.annotation
        for each in _KINDS:
            if kind is each and not many and isinstance(value, str | int | float):
                return _converted(each, value, param, ctx)
            if get_args(kind) == (each,) and many and isinstance(value, list | tuple):
                return [_converted(each, one, param, ctx) for one in value]
        return self.usual().coerce(value, param=param, ctx=ctx)


def _converted(kind: type, value: Any, param: Any, ctx: Any) -> Any:
    try:
        return kind(value)
    except ValueError:
        message = f"{value!r} is not a valid {kind.__name__}."
        raise typer.BadParameter(message, ctx=ctx, param=param) from None
