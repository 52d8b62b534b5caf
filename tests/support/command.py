"""Run the command line inside the test's process."""

import sys

import pytest

from unianimate.cli.app import main


def run(monkeypatch, capsys, *arguments: str) -> tuple[int, str, str]:
    """Run the command line in this process; return exit status, stdout and stderr."""
    monkeypatch.setattr(sys, "argv", ["unianimate", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
        sys.exit(0)
    printed = capsys.readouterr()
    return stop.value.code or 0, printed.out, printed.err
