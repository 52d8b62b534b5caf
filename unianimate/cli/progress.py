"""The progress bar of commands that sample."""

from typing import Any


class StepProgress:
    """A bar over all sampling steps with the time left, on stderr; or nothing.

    Used as a context, it is the function that a pipeline takes as ``progress``.

    Args:
        quiet: show nothing.
    """

    def __init__(self, quiet: bool = False) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

        columns = ("steps", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=Console(stderr=True), disable=quiet)
        self._task: Any = None

    def __enter__(self) -> "StepProgress":
        """Show the bar."""
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Leave the bar as it is."""
        self._bar.stop()

    def __call__(self, done: int, in_all: int) -> None:
        """Show that so many steps of all are done."""
        if self._task is None:
            self._task = self._bar.add_task("steps", total=in_all)
        self._bar.update(self._task, completed=done)
