"""``unianimate animate``: a photo and a driving video, pose file or pose folder to a video."""

import json as json_module
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from .inputs import default_model, driving_fps, driving_poses
from .progress import ProgressBar

if TYPE_CHECKING:
    from unianimate.data.pictures import Fit
    from unianimate.pipelines import Checkpoint
    from unianimate.pipelines.animate import Long

_log = logging.getLogger(__name__)


def animate(
    reference: Annotated[Path, typer.Argument(help="The photo.")],
    driving: Annotated[
        Path, typer.Argument(help="A video, a pose file (.npz) or a folder of pose pictures.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help=".mp4, .webm, .gif, or a folder for PNGs.")
    ],
    model: Annotated[
        str | None, typer.Option(help="Model folder or name (default: unianimate-v1 or small).")
    ] = None,
    reference_pose: Annotated[
        Path | None, typer.Option(help="Pose of the photo: .npz or picture.")
    ] = None,
    no_align: Annotated[
        bool, typer.Option("--no-align", help="Use the driving poses as they are.")
    ] = False,
    width: Annotated[int | None, typer.Option(help="In pixels (default: the model's).")] = None,
    height: Annotated[int | None, typer.Option(help="In pixels (default: the model's).")] = None,
    frames: Annotated[int | None, typer.Option(min=1, help="At most so many frames.")] = None,
    every: Annotated[int, typer.Option(min=1, help="Use each n-th driving frame.")] = 1,
    steps: Annotated[int | None, typer.Option(min=1, help="Sampling steps.")] = None,
    guidance: Annotated[float | None, typer.Option(help="1.0 is none, and twice as fast.")] = None,
    seed: Annotated[int, typer.Option(help="Of all random draws.")] = 7,
    long: Annotated[str, typer.Option(help="Long videos: window, chain or single.")] = "window",
    scheduler: Annotated[str, typer.Option(help="ddim, or dpm++ with half the steps.")] = "ddim",
    fit: Annotated[str, typer.Option(help="Of the photo: stretch, pad or crop.")] = "stretch",
    fps: Annotated[
        float | None, typer.Option(help="Of the result (default: the driving video's / every).")
    ] = None,
    audio: Annotated[
        bool, typer.Option("--audio", help="Take over the sound of the driving video.")
    ] = False,
    side_by_side: Annotated[
        bool, typer.Option("--side-by-side", help="Photo and pose beside each frame.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted run; keep this one's work.")
    ] = False,
    low_memory: Annotated[
        bool, typer.Option("--low-memory", help="Less memory, slower, the same result.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON summary.")] = False,
    verbose: Annotated[bool, typer.Option("-v", help="Log what is decided.")] = False,
) -> None:
    """Animate a photo by the poses of a driving video."""
    from unianimate.data import VideoWriter, open_picture
    from unianimate.models.folders import model_folder
    from unianimate.pipelines import (
        Checkpoint,
        make_scheduler,
        side_by_side_frames,
        torchrun_processes,
    )

    if verbose:
        _log_to_stderr()
    started = time.perf_counter()
    for given in (reference, driving, reference_pose):
        if given is not None and output.exists() and given.exists() and output.samefile(given):
            raise ValueError(f"{output}: this is an input; name another output")
    photo = open_picture(reference)
    folder = model_folder(model) if model is not None else default_model()
    make_scheduler(scheduler)  # another name is refused before anything is computed
    checkpoint = Checkpoint(output.parent / f".{output.name}.unfinished", resume=resume)
    fps = driving_fps(driving, every) if fps is None else fps
    # a wrong output is refused before anything is computed, and finding poses takes long
    writer = VideoWriter(
        output,
        fps,
        audio_from=driving if audio else None,
        scratch=checkpoint.scratch,
    )
    poses = driving_poses(reference, photo, driving, reference_pose, no_align, every, frames)

    from unianimate.models import UniAnimate
    from unianimate.pipelines import AnimatePipeline

    num_frames = min(poses.num_frames, frames or poses.num_frames)
    fit_word = cast("Fit", fit)  # the pipeline refuses other words
    with ExitStack() as stack:
        processes = stack.enter_context(torchrun_processes())
        whole = UniAnimate.from_pretrained(folder, offload=low_memory)
        _log.info("model: %s, %s on %s", folder, whole.dtype, whole.device)
        bar = ProgressBar(num_frames, show=processes.is_first and not (quiet or json))
        if processes.is_first:
            if not (resume or checkpoint.is_empty):
                _say(f"{output}: starting afresh; what an unfinished run kept is dropped")
            for context in (_kept_for_resume(checkpoint, output, resume), writer, bar):
                stack.enter_context(context)
        solver = make_scheduler(scheduler, whole.config.timestep_shift)
        made = AnimatePipeline(whole, solver, processes=processes).stream(
            photo,
            poses,
            width=width,
            height=height,
            num_frames=frames,
            num_inference_steps=steps,
            guidance_scale=guidance,
            seed=seed,
            long=cast("Long", long),
            fit=fit_word,
            low_memory=low_memory,
            progress=bar.step,
            checkpoint=checkpoint,
        )
        for number, frame in enumerate(
            side_by_side_frames(photo, poses, made, fit_word) if side_by_side else made
        ):
            writer.write(frame)
            if number >= checkpoint.resumed_frames:
                bar.frame()
            else:
                bar.kept(number + 1)
    if not processes.is_first:
        return
    seconds = time.perf_counter() - started
    if json:
        summary = {
            "output": str(output),
            "model": str(folder),
            "frames": num_frames,
            "resumed_frames": checkpoint.resumed_frames,
            "width": writer.size[0],
            "height": writer.size[1],
            "fps": fps,
            "seed": seed,
            "seconds": round(seconds, 1),
        }
        typer.echo(json_module.dumps(summary))
    else:
        typer.echo(f"{output}: {num_frames} frames by {folder.name} in {seconds:.0f} s")


@contextmanager
def _kept_for_resume(checkpoint: "Checkpoint", output: Path, resume: bool) -> Iterator[None]:
    """Remove what a run keeps, unless another will go on with it."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        if checkpoint.is_empty:
            checkpoint.remove()
            _say(f"stopped: {output} was not begun, and nothing is left of it")
        else:
            _say(
                f"stopped: {output} is not written; what is done stays in {checkpoint.folder}: "
                f"the same command with --resume goes on"
            )
        raise
    except Exception:
        if not resume or checkpoint.is_empty:
            checkpoint.remove()
        raise
    checkpoint.remove()


def _say(line: str) -> None:
    typer.echo(f"unianimate: {line}", err=True)


def _log_to_stderr() -> None:
    """Log what this package decides; a progress bar on the same terminal stays whole."""
    log = logging.getLogger("unianimate")
    if not log.handlers:
        log.addHandler(_Stderr())
    log.setLevel(logging.INFO)


class _Stderr(logging.Handler):
    """Writes to the stderr of the moment, which a progress bar replaces."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr)
