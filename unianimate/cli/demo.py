"""``unianimate demo``: animate a drawn figure on the CPU, with nothing but what is installed."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .progress import ProgressBar

if TYPE_CHECKING:
    from unianimate.models import UniAnimate

# a puppet that training never meets, and two windows of the small model
_PUPPET, _FRAMES = 69, 28


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for what is made.")] = Path(
        "demo"
    ),
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Animate a drawn figure on the CPU: a video, a contact sheet, and the inputs to go on with."""
    from PIL import Image

    from unianimate.data import Puppet, VideoWriter, contact_sheet
    from unianimate.pipelines import AnimatePipeline
    from unianimate.pose import DrawnPoses

    output.mkdir(parents=True, exist_ok=True)
    model, trained = _model()
    puppet = Puppet(_PUPPET, held_out=True)
    width, height = model.config.width, model.config.height
    photo, standing = puppet.reference(height, width)
    dance = puppet.poses(_FRAMES, height, width)
    picture = Image.fromarray(photo)
    picture.save(output / "photo.png")
    standing.save(output / "photo_pose.npz")
    dance.save(output / "dance.npz")

    poses = DrawnPoses(dance, standing)
    frames = []
    with (
        VideoWriter(output / "demo.mp4", poses.fps) as writer,
        ProgressBar(_FRAMES, show=not quiet) as bar,
    ):
        for frame in AnimatePipeline(model).stream(picture, poses, progress=bar.step):
            writer.write(frame)
            frames.append(frame)
            bar.frame()
    sheet = contact_sheet((poses.reference(), photo), poses.read(range(_FRAMES)), frames)
    Image.fromarray(sheet).save(output / "contact_sheet.png")
    typer.echo(_last_line(output, trained))


def _model() -> tuple["UniAnimate", bool]:
    """Return the shipped model; while there is none, the same network with random weights."""
    import torch

    from unianimate.models import PRESETS, UniAnimate
    from unianimate.models.folders import model_folder

    try:
        return UniAnimate.from_pretrained(model_folder("small"), device="cpu"), True
    except FileNotFoundError:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return UniAnimate(PRESETS["small"]).eval(), False


def _last_line(output: Path, trained: bool) -> str:
    made = f"{output / 'demo.mp4'} and {output / 'contact_sheet.png'}: a drawn figure in motion"
    again = f"unianimate animate {output / 'photo.png'} {output / 'dance.npz'} -o again.mp4"
    if trained:
        return f"{made}, by the small model; next try `{again} --seed 8`, or a photo of yours"
    return (
        f"{made}, by the small model UNTRAINED, so its pictures are noise; next make a trained "
        f"one of the official files with `unianimate convert`, then try `{again}`"
    )
