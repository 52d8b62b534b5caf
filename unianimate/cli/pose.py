"""``unianimate pose``: extract, align and draw poses."""

from pathlib import Path
from typing import Annotated, Any

import typer

pose = typer.Typer(name="pose", help="Extract, align and draw poses.", no_args_is_help=True)

_Reference = Annotated[
    Path | None,
    typer.Option("--reference", "-r", help="Pose file (.npz) of the reference: align to it."),
]
_Detector = Annotated[Path | None, typer.Option(help="Path of yolox_l.onnx.")]
_Keypoints = Annotated[Path | None, typer.Option(help="Path of dw-ll_ucoco_384.onnx.")]


@pose.command()
def extract(
    source: Annotated[Path, typer.Argument(help="A video, or a photo.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Pose file (.npz) to write.")],
    every: Annotated[int, typer.Option(min=1, help="Take each n-th frame.")] = 1,
    smooth: Annotated[
        float, typer.Option(min=0.0, help="Smooth over time: standard deviation in frames.")
    ] = 0.0,
    provider: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    detector: _Detector = None,
    keypoints: _Keypoints = None,
) -> None:
    """Find the pose of the person in every frame, with DWPose."""
    from unianimate.pose import DWPose, smooth_pose

    find = DWPose(detector, keypoints, provider=_provider(provider))
    frames, fps = _frames(source, every)
    found = smooth_pose(find(frames, fps=fps), smooth)
    found.save(output)
    seen = int(found.visible.any(axis=1).sum())
    typer.echo(f"{output}: {len(found)} frames, a person in {seen}")


@pose.command()
def align(
    driving: Annotated[Path, typer.Argument(help="Pose file (.npz) of the driving video.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Pose file (.npz) to write.")],
    reference: Annotated[
        Path, typer.Option("--reference", "-r", help="Pose file (.npz) of the reference.")
    ],
) -> None:
    """Give the driving poses the proportions and the place of the reference person."""
    from unianimate.pose import PoseSequence, align_pose

    aligned = align_pose(PoseSequence.load(driving), PoseSequence.load(reference))
    aligned.save(output)
    typer.echo(f"{output}: {len(aligned)} frames aligned to {reference}")


@pose.command()
def draw(
    poses: Annotated[Path, typer.Argument(help="Pose file (.npz).")],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Preview (.mp4, .webm, .gif) or folder of pictures."),
    ],
    reference: _Reference = None,
    width: Annotated[int, typer.Option(min=1, help="In pixels.")] = 512,
    height: Annotated[int, typer.Option(min=1, help="In pixels.")] = 768,
    fps: Annotated[float | None, typer.Option(help="Of the preview; else the file's.")] = None,
    face: Annotated[bool, typer.Option("--face", help="Draw the face too.")] = False,
) -> None:
    """Draw poses as a preview video, or as the folder of pictures that `animate` takes.

    The folder needs --reference: it holds the reference's pose and the aligned driving poses.
    """
    from unianimate.data import VideoWriter
    from unianimate.pose import PoseSequence, align_pose, draw_pose, write_pose_pictures

    sequence = PoseSequence.load(poses)
    target = None if reference is None else PoseSequence.load(reference)
    if target is not None:
        sequence = align_pose(sequence, target)
    if output.suffix == "":
        if target is None:
            raise ValueError(
                f"{output}: a folder of pose pictures holds the reference's pose: name its file "
                f"with --reference, or write an .mp4 preview"
            )
        write_pose_pictures(output, sequence, target, height=height, width=width)
    else:
        with VideoWriter(output, fps or sequence.fps or 8) as writer:
            for index in range(len(sequence)):
                frame = draw_pose(sequence[index : index + 1], height, width, face=face)[0]
                writer.write(frame)
    typer.echo(f"{output}: {len(sequence)} frames")


def _frames(source: Path, every: int) -> tuple[Any, float]:
    """Return the frames of a video or a photo, and their number a second (0 for a photo)."""
    import numpy as np

    from unianimate.data import open_picture, probe_video, read_video

    if source.suffix.lower() in {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}:
        return [np.asarray(open_picture(source))], 0.0
    return read_video(source, every=every), probe_video(source).fps / every


def _provider(name: str) -> Any:
    if name not in ("cpu", "cuda"):
        raise ValueError(f"--provider must be cpu or cuda, got {name!r}")
    return name
