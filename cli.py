"""The command line: it mounts the commands of `commands/`, and nothing else.

Results go to stdout, as a table on a terminal and otherwise as one JSON object a line; everything
else goes to stderr. What the user can put right is one line there, with exit code 2. Nothing heavy
is imported before a command needs it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from .commands import bench, console, index, running, upgrade
from .commands import options as o
from .commands.evaluate import evaluate
from .commands.search import search

app = typer.Typer(name="retr", **o.SETTINGS)
app.command()(search)
app.add_typer(index.app, name="index")
app.add_typer(upgrade.app, name="upgrade")
app.command("eval")(evaluate)
app.add_typer(bench.app, name="bench", short_help="Measure retrieval on published data sets.")


@app.callback()
def root(
    context: typer.Context,
    version: Annotated[bool, o.flag("--version", "Print the version and exit.")] = False,
) -> None:
    """Search your documents by meaning and by words.

    \b
    Example:
      retr index build docs
      retr search "how do I delete a document?"
    """
    if version:
        from .retrieval.values.version import __version__

        console.write(f"retr {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        console.write(context.get_help())


def run_command(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; errors are those of `running.run`."""
    return running.run(app, arguments)


def main() -> None:
    """Run the command line and exit."""
    sys.exit(console.exit_code(lambda: run_command(sys.argv[1:])))
