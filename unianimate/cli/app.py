"""The command line: one application, one error handler."""

import importlib.metadata
import signal
import sys
import threading
from typing import Annotated, Any

import typer

from unianimate.out_of_memory import is_lack_of_memory

from .animate import animate
from .convert import convert
from .demo import demo
from .evaluate import evaluate
from .info import info
from .pose import pose
from .profile import profile
from .train import train
from .web import web

app = typer.Typer(
    name="unianimate",
    help="Animate a photo of a person by a sequence of poses.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
# what typer raises for a wrong command line; it names only this subclass of it
_USAGE_ERROR: Any = typer.BadParameter.__bases__[0]
_ADVICE: dict[type[Exception], str] = {
    FileNotFoundError: "check the name",
    FileExistsError: "choose another name",
    IsADirectoryError: "wanted a file",
    NotADirectoryError: "wanted a folder on the way to it",
    PermissionError: "check its permissions, or choose another place",
}

app.command()(animate)
app.command()(convert)
app.command()(demo)
app.command()(evaluate)
app.command()(info)
app.command()(profile)
app.command()(train)
app.command()(web)
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
    _unwind_on_termination()
    try:
        sys.exit(app(prog_name="unianimate", standalone_mode=False))
    except typer.Exit as stop:
        sys.exit(stop.exit_code)
    except _USAGE_ERROR as error:
        sys.exit(_complain_of_usage(error))
    except (ValueError, OSError, ImportError) as error:
        sys.exit(_complain(_reason(error)))
    except (MemoryError, RuntimeError) as error:
        if not is_lack_of_memory(error):
            raise
        sys.exit(_complain("out of memory: choose a smaller size or fewer frames at once"))


def _unwind_on_termination() -> None:
    """Let SIGTERM end the command as Ctrl-C does, so that it can clean up."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    if in_main_thread and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))


def _complain(message: str) -> int:
    print(f"unianimate: {' '.join(message.split())}", file=sys.stderr)
    return 2


def _complain_of_usage(error: Any) -> int:
    """Say what is wrong with the command line itself; without a command, show the help."""
    message = error.format_message()
    if not message or type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return 2
    command = "unianimate" if error.ctx is None else error.ctx.command_path
    return _complain(f"{message.rstrip('.')}: see `{command} --help`")


def _reason(error: Exception) -> str:
    """Return the message of an exception; the system's own errors name the file first."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        advice = _ADVICE.get(type(error), "choose another place or name")
        return f"{error.filename}: {error.strerror.lower()}; {advice}"
    return str(error) or type(error).__name__
