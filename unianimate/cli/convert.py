"""``unianimate convert``: the official files to a model folder, and a UNet back."""

from pathlib import Path
from typing import Annotated

import typer


def convert(
    sources: Annotated[
        list[Path],
        typer.Argument(
            help="The three official files in any order, or the folder that holds them. "
            "With --to-official: a model folder."
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="The model folder to make; by default the one that is named unianimate-v1. "
            "With --to-official: the checkpoint to write.",
        ),
    ] = None,
    to_official: Annotated[
        bool,
        typer.Option("--to-official", help="Write the UNet as the official code loads it."),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Make a model folder from the official UniAnimate, Stable Diffusion and CLIP files."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from unianimate.models.checkpoints.convert import (
        convert_from_official,
        convert_to_official,
    )
    from unianimate.models.folders import data_home

    if to_official and (len(sources) != 1 or output is None):
        raise ValueError("convert --to-official: wanted one model folder and -o FILE")
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    silent = quiet or not console.is_terminal
    with Progress(
        *columns, TimeRemainingColumn(), console=console, transient=True, disable=silent
    ) as bar:
        task = bar.add_task("reading", total=None)

        def progress(done: int, total: int, part: str) -> None:
            bar.update(task, completed=done, total=total, description=part)

        if to_official:
            result = convert_to_official(sources[0], str(output), progress=progress)
        else:
            folder = output or data_home() / "unianimate-v1"
            result = convert_from_official(sources, folder, progress=progress)
    for part, count in result.parameters.items():
        typer.echo(f"{part:<14} {count:>13,} parameters")
    typer.echo(f"written to {result.path}")
