"""``unianimate animate``: a photo and a driving video, pose file or pose folder to a video."""

import json as json_module
import time
from pathlib import Path
from typing import Annotated

import typer

from .inputs import default_model, driving_poses
from .progress import StepProgress


def animate(
    reference: Annotated[Path, typer.Argument(help="The photo.")],
    driving: Annotated[
        Path, typer.Argument(help="A video, a pose file (.npz) or a folder of pose pictures.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help=".mp4, .webm, .gif, or a folder for PNGs.")
    ],
    model: Annotated[
        str | None, typer.Option(help="Model folder or name [default: unianimate-v1 or small].")
    ] = None,
    reference_pose: Annotated[
        Path | None, typer.Option(help="Pose of the photo: .npz or picture.")
    ] = None,
    no_align: Annotated[
        bool, typer.Option("--no-align", help="Use the driving poses as they are.")
    ] = False,
    width: Annotated[int | None, typer.Option(help="In pixels [default: the model's].")] = None,
    height: Annotated[int | None, typer.Option(help="In pixels [default: the model's].")] = None,
    frames: Annotated[int | None, typer.Option(min=1, help="At most so many frames.")] = None,
    every: Annotated[int, typer.Option(min=1, help="Use each n-th driving frame.")] = 1,
    steps: Annotated[int | None, typer.Option(min=1, help="Sampling steps.")] = None,
    guidance: Annotated[float | None, typer.Option(help="1.0 is none, and twice as fast.")] = None,
    seed: Annotated[int, typer.Option(help="Of all random draws.")] = 7,
    long: Annotated[str, typer.Option(help="Long videos: window, chain or single.")] = "window",
    fit: Annotated[str, typer.Option(help="Of the photo: stretch, pad or crop.")] = "stretch",
    fps: Annotated[
        float | None, typer.Option(help="Of the result [default: the driving video's / every].")
    ] = None,
    audio: Annotated[
        bool, typer.Option("--audio", help="Take over the sound of the driving video.")
    ] = False,
    low_memory: Annotated[
        bool, typer.Option("--low-memory", help="Less memory, slower, the same result.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON summary.")] = False,
    verbose: Annotated[bool, typer.Option("-v", help="Log what is decided.")] = False,
) -> None:
    """Animate a photo by the poses of a driving video."""
    import logging

    from unianimate.data import VideoWriter, open_picture
    from unianimate.models.folders import model_folder

    if verbose:
        logging.basicConfig(level=logging.INFO, format="%(message)s")
    photo = open_picture(reference)
    poses = driving_poses(reference, photo, driving, reference_pose, no_align, every)
    folder = model_folder(model) if model is not None else default_model()
    started = time.perf_counter()
    # a wrong output is refused before anything is computed
    writer = VideoWriter(output, fps or poses.fps, audio_from=driving if audio else None)

    from unianimate.pipelines import AnimatePipeline

    pipeline = AnimatePipeline.from_pretrained(folder, offload=low_memory)
    count = 0
    with writer, StepProgress(quiet or json) as progress:
        for frame in pipeline.stream(
            photo,
            poses,
            width=width,
            height=height,
            num_frames=frames,
            num_inference_steps=steps,
            guidance_scale=guidance,
            seed=seed,
            long=long,  # type: ignore[arg-type]  # the pipeline refuses other words
            fit=fit,  # type: ignore[arg-type]
            low_memory=low_memory,
            progress=progress,
        ):
            writer.write(frame)
            count += 1
    seconds = time.perf_counter() - started
    if json:
        summary = {
            "output": str(output),
            "model": str(folder),
            "frames": count,
            "fps": fps or poses.fps,
            "seed": seed,
            "seconds": round(seconds, 1),
        }
        typer.echo(json_module.dumps(summary))
    else:
        typer.echo(f"{output}: {count} frames by {folder.name} in {seconds:.0f} s")
