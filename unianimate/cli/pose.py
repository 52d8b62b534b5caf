"""``unianimate pose``: extract, align and draw poses."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unianimate.files import expect_writable

if TYPE_CHECKING:
    from unianimate.pose import PoseSequence

pose = typer.Typer(name="pose", help="Extract, align and draw poses.", no_args_is_help=True)

_Reference = Annotated[
    Path | None,
    typer.Option("--reference", "-r", help="Pose file (.npz) of the reference: align to it."),
]
_Detector = Annotated[Path | None, typer.Option(help="Path of yolox_l.onnx.")]
_Keypoints = Annotated[Path | None, typer.Option(help="Path of dw-ll_ucoco_384.onnx.")]


@pose.command()
def extract(
    source: Annotated[
        Path, typer.Argument(help="A video, a photo, or a folder of videos to prepare.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Pose file (.npz) to write; for a folder, where to put the pose files "
            "(default: NAME_pose.npz beside each).",
        ),
    ] = None,
    layout: Annotated[
        str, typer.Option(help="Of the folder: folder, tiktok or fashion.")
    ] = "folder",
    every: Annotated[
        int, typer.Option(min=1, help="Take each n-th frame; training needs all.")
    ] = 1,
    smooth: Annotated[
        float, typer.Option(min=0.0, help="Smooth over time: standard deviation in frames.")
    ] = 0.0,
    provider: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    detector: _Detector = None,
    keypoints: _Keypoints = None,
) -> None:
    """Find the pose of the person in every frame, with DWPose.

    A folder is prepared for training: videos that have poses are left alone, so that an interrupted
    run goes on where it was, and those that cannot be read are named and skipped. A folder of
    pictures is one video when -o names a pose file.
    """
    from unianimate.pose import DWPose, PoseSequence, smooth_pose

    is_set = source.is_dir() and (output is None or output.suffix.lower() != ".npz")
    target = output or source.with_name(f"{source.stem}_pose.npz")
    if not is_set:
        _expect_pose_file(target)
    detect = DWPose(detector, keypoints, provider=_provider(provider))

    def find(video: Path) -> PoseSequence:
        frames, fps = _frames(video, every)
        return smooth_pose(detect(frames, fps=fps), smooth)

    if is_set:
        _extract_folder(source, output or source, layout, find)
        return
    found = find(source)
    found.save(target)
    typer.echo(f"{target}: {_seen(found)}")


def _extract_folder(
    source: Path, target: Path, layout: str, find: Callable[[Path], "PoseSequence"]
) -> None:
    from unianimate.data import find_poses, list_videos, pose_file

    videos = list_videos(layout, source)  # type: ignore[arg-type]  # it refuses other words
    missing = [video for video in videos if find_poses(video, target) is None]
    broken = 0
    for number, video in enumerate(missing, start=1):
        path = pose_file(video, target)
        path.parent.mkdir(parents=True, exist_ok=True)
        _expect_pose_file(path)
        try:
            found = find(video.path)
        except (ValueError, OSError) as error:
            broken += 1
            typer.echo(f"{number}/{len(missing)} skipped: {error}", err=True)
            continue
        found.save(path)
        typer.echo(f"{number}/{len(missing)} {path}: {_seen(found)}", err=True)
    if broken == len(videos):
        raise ValueError(f"{source}: none of the {broken} videos in it can be read")
    typer.echo(
        f"{target}: poses of {len(missing) - broken} videos written, {len(videos) - len(missing)} "
        f"were there, {broken} videos skipped"
    )


def _expect_pose_file(path: Path) -> None:
    """Find out before poses are looked for, which takes long, that their file can be written."""
    if path.is_dir():
        raise IsADirectoryError(f"{path}: this is a folder; name a pose file (.npz) to write")
    if path.suffix.lower() != ".npz":
        raise ValueError(f"{path}: poses go into an .npz file; name one to write")
    expect_writable(path)


def _seen(poses: "PoseSequence") -> str:
    return f"{len(poses)} frames, a person in {int(poses.visible.any(axis=1).sum())}"


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

    _expect_pose_file(output)
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
    from unianimate.pose.source import DEFAULT_FPS

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
        if face or fps is not None:
            raise ValueError(
                f"{output}: a folder of pose pictures has neither faces nor a number of frames a "
                f"second: leave out --face and --fps, or write an .mp4 preview"
            )
        write_pose_pictures(output, sequence, target, height=height, width=width)
    else:
        with VideoWriter(output, sequence.fps or DEFAULT_FPS if fps is None else fps) as writer:
            for index in range(len(sequence)):
                frame = draw_pose(sequence[index : index + 1], height, width, face=face)[0]
                writer.write(frame)
    typer.echo(f"{output}: {len(sequence)} frames")


def _frames(source: Path, every: int) -> tuple[Any, float]:
    """Return the frames of a video or photo, and their number a second (0 where it is unknown)."""
    import numpy as np

    from unianimate.data import open_picture, probe_video, read_video
    from unianimate.data.frames import PictureFrames
    from unianimate.pose.listing import PICTURE_SUFFIXES

    if source.is_dir():
        pictures = PictureFrames(source)
        numbers = range(0, len(pictures), every)
        return (np.asarray(pictures.read([number])[0]) for number in numbers), 0.0
    if source.suffix.lower() in PICTURE_SUFFIXES:
        return [np.asarray(open_picture(source))], 0.0
    return read_video(source, every=every), probe_video(source).fps / every


def _provider(name: str) -> Any:
    if name not in ("cpu", "cuda"):
        raise ValueError(f"--provider must be cpu or cuda, got {name!r}")
    return name
