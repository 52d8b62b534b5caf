"""The command line: one application, one error handler."""

import importlib.metadata
import sys
from typing import Annotated

import typer

from .animate import animate
from .convert import convert
from .info import info
from .pose import pose

app = typer.Typer(
    name="unianimate",
    help="Animate a photo of a person by a sequence of poses.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command()(animate)
app.command()(convert)
app.command()(info)
app.add_typer(pose)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"unianimate {importlib.metadata.version('unianimate')}")
        raise typer.Exit()


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Hold what every command shares."""


def main() -> None:
    """Run the command line; what the user can mend ends in one line and exit status 2."""
    try:
        app()
    except (ValueError, OSError, ImportError) as error:
        sys.exit(_complain(error))


def _complain(error: Exception) -> int:
    message = " ".join(str(error).split()) or type(error).__name__
    print(f"unianimate: {message}", file=sys.stderr)
    return 2
