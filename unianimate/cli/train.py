"""``unianimate train``: a recipe, what is laid over it, and the run it makes."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from unianimate.training.config import TrainConfig
    from unianimate.training.loop import Record

_VIDEO_RECIPE = "video"


def train(
    context: typer.Context,
    overlay: Annotated[
        Path | None, typer.Argument(help="YAML file of settings to lay over the recipe.")
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of the run; an old one goes on.")
    ] = Path("run"),
    recipe: Annotated[
        str | None, typer.Option(help="Settings that come with the package: see --list.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="One setting, such as optimizer.learning_rate=1e-4."),
    ] = None,
    video: Annotated[
        Path | None, typer.Option(help="Fit a model to this video and animate its last frames.")
    ] = None,
    poses: Annotated[Path | None, typer.Option(help="Pose file (.npz) of that video.")] = None,
    fit_frames: Annotated[
        int, typer.Option(min=1, help="First frames of the video to fit to.")
    ] = 100,
    test_frames: Annotated[
        int, typer.Option(min=1, help="Last frames of the video to animate.")
    ] = 50,
    every: Annotated[int, typer.Option(min=1, help="Use each n-th frame of the video.")] = 1,
    decoder_steps: Annotated[
        int, typer.Option(min=0, help="Steps that fit the decoder to the video; 0: none.")
    ] = 300,
    list_recipes: Annotated[
        bool, typer.Option("--list", help="List the recipes and stop.")
    ] = False,
    show: Annotated[
        bool, typer.Option("--show", help="Print the whole configuration and stop.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Train a model, or go on training one; `torchrun` starts it on many GPUs or machines."""
    import yaml

    from unianimate.training.config import load_config
    from unianimate.training.recipes import read_recipe, recipe_names

    if list_recipes:
        typer.echo("\n".join(recipe_names()))
        return
    for name in ("fit_frames", "test_frames", "every", "decoder_steps"):
        source = context.get_parameter_source(name)
        if video is None and source is not None and source.name == "COMMANDLINE":
            raise ValueError(f"--{name.replace('_', '-')} is about one video: give --video too")
    if video is not None and recipe is None:
        recipe = _VIDEO_RECIPE
    preset = {} if recipe is None else read_recipe(recipe)
    if video is not None or poses is not None:
        preset["data"] = preset.get("data", {}) | _one_video(video, poses, fit_frames, every)
    config = load_config(preset, overlay, _split(settings or []))
    if show:
        typer.echo(yaml.safe_dump(config.to_dict(), sort_keys=False), nl=False)
        return
    from unianimate.models.devices import default_device, keep_freed_memory

    if default_device().type == "cpu":
        keep_freed_memory()
    # of several processes the first one speaks
    quiet = quiet or os.environ.get("RANK", "0") != "0"
    if video is not None:
        _fit(config, output, test_frames, decoder_steps, quiet)
    else:
        _train(config, output, quiet)


def _train(config: "TrainConfig", output: Path, quiet: bool) -> None:
    from unianimate.training.run import run_training

    with _Progress(config.steps, quiet) as progress:
        model = run_training(config, output, report=progress.report, progress=progress.prepared)
    if os.environ.get("RANK", "0") == "0":
        typer.echo(f"{model}: trained for {config.steps} steps")


def _fit(
    config: "TrainConfig", output: Path, test_frames: int, decoder_steps: int, quiet: bool
) -> None:
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("--video runs in one process: start it without torchrun")
    from unianimate.training.real_video import fit_video

    with _Progress(config.steps, quiet) as progress:
        done = fit_video(
            config,
            output,
            test_frames=test_frames,
            decoder_steps=decoder_steps,
            report=progress.report,
            progress=progress.prepared,
        )
    for what, figures in (("animated", done.animated), ("copies", done.copies)):
        typer.echo(f"{what}: PSNR {figures['psnr']:.2f} dB, SSIM {figures['ssim']:.3f}")
    typer.echo(
        f"{output}: animated/, side_by_side/, contact_sheet.png and metrics.json; "
        f"{done.gain:+.2f} dB against copies of the first frame"
    )


def _one_video(
    video: Path | None, poses: Path | None, fit_frames: int, every: int
) -> dict[str, Any]:
    if video is None or poses is None:
        raise ValueError(
            "--video and --poses go together; `unianimate pose extract VIDEO` makes the poses"
        )
    return {
        "kind": "video",
        "path": str(video),
        "poses": str(poses),
        "video_frames": fit_frames,
        "strides": [every],
    }


def _split(settings: list[str]) -> dict[str, str]:
    pairs = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise ValueError(f"--set wants name=value, got {setting!r}")
        pairs[name] = value
    return pairs


# of a line of the log, beside the bar
_SAID = ("loss", "psnr", "sample/psnr")


class _Progress:
    """A bar over the steps with the last loss, and one over each preparation; or nothing."""

    def __init__(self, steps: int, quiet: bool) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        self._bar = Progress(
            *columns,
            TimeRemainingColumn(),
            TextColumn("{task.fields[said]}"),
            console=Console(stderr=True),
            disable=quiet,
        )
        self._steps = steps
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> "_Progress":
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def prepared(self, what: str, done: int, in_all: int) -> None:
        """Show how far a preparation is."""
        self._show(what, done, in_all, "")

    def report(self, line: "Record") -> None:
        """Show a line of the log."""
        said = ", ".join(f"{k} {line[k]:.4g}" for k in _SAID if k in line)
        self._show("steps", int(line["step"]), self._steps, said)

    def _show(self, what: str, done: int, in_all: int, said: str) -> None:
        if what not in self._tasks:
            self._tasks[what] = self._bar.add_task(what, total=in_all, said=said)
        self._bar.update(self._tasks[what], completed=done, said=said)
