"""``unianimate demo``: animate a drawn figure on the CPU, with nothing but what is installed."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from .progress import ProgressBar

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
    pipeline = AnimatePipeline.from_pretrained("small", device="cpu")
    puppet = Puppet(_PUPPET, held_out=True)
    width, height = pipeline.model.config.width, pipeline.model.config.height
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
        for frame in pipeline.stream(picture, poses, progress=bar.step):
            writer.write(frame)
            frames.append(frame)
            bar.frame()
    sheet = contact_sheet((poses.reference(), photo), poses.read(range(_FRAMES)), frames)
    Image.fromarray(sheet).save(output / "contact_sheet.png")
    inputs = shlex.join([str(output / "photo.png"), str(output / "dance.npz")])
    typer.echo(
        f"{output / 'demo.mp4'} and {output / 'contact_sheet.png'}: a drawn figure in motion, by "
        f"the small model; next try `unianimate animate {inputs} -o again.mp4 --seed 8`"
    )
