"""What commands that animate are given: a model, and poses from any kind of file."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

    from unianimate.pose import PoseSequence, PoseSource


def default_model() -> Path:
    """Return the folder of ``unianimate-v1`` if it was made, else of ``small``.

    Raises:
        FileNotFoundError: there is neither; the message says how to get one.
    """
    from unianimate.models.folders import model_folder

    for name in ("unianimate-v1", "small"):
        try:
            return model_folder(name)
        except FileNotFoundError:
            continue
    raise FileNotFoundError(
        "there is no model yet: make unianimate-v1 from the official files with "
        "`unianimate convert`, or name a model folder with --model"
    )


def driving_poses(
    reference: Path,
    photo: "Image.Image",
    driving: Path,
    reference_pose: Path | None,
    no_align: bool,
    every: int,
) -> "PoseSource":
    """Return the driving poses: a folder as it is, key points aligned to the photo's pose.

    Args:
        reference: where the photo is; its pose may lie beside it.
        photo: the photo itself.
        driving: a video, a pose file or a folder of pose pictures.
        reference_pose: pose file or picture of the photo's pose, if it was named.
        no_align: take the driving poses as they are.
        every: use each n-th pose.

    Raises:
        ValueError: a file that cannot be used.
        OSError: a file that is missing, or the pose of the photo is not to be found.
    """
    from unianimate.pose import DrawnPoses, FolderPoses, PosePictures, PoseSequence, align_pose

    if driving.is_dir():
        return FolderPoses(PosePictures.open(driving), every)
    is_file = driving.suffix.lower() == ".npz"
    sequence = PoseSequence.load(driving) if is_file else _extract(driving)
    target = _reference_pose(reference, photo, reference_pose)
    return DrawnPoses(sequence if no_align else align_pose(sequence, target), target, every)


def _reference_pose(reference: Path, photo: "Image.Image", named: Path | None) -> "PoseSequence":
    """Return the photo's pose: the file named, the one beside the photo, or by extraction."""
    import numpy as np

    from unianimate.data import open_picture
    from unianimate.pose import DWPose, PoseSequence

    beside = reference.with_name(f"{reference.stem}_pose.npz")
    if named is not None and named.suffix.lower() != ".npz":
        return DWPose()([np.asarray(open_picture(named))])
    if named is not None or beside.is_file():
        return PoseSequence.load(named or beside)
    try:
        return DWPose()([np.asarray(photo)])
    except (FileNotFoundError, ImportError) as error:
        raise FileNotFoundError(
            f"the pose of {reference} is not known: name it with --reference-pose, put "
            f"{beside.name} beside the photo, or let it be found: {error}"
        ) from error


def _extract(video: Path) -> "PoseSequence":
    from unianimate.data import probe_video, read_video
    from unianimate.pose import DWPose

    info = probe_video(video)
    return DWPose()(read_video(video), fps=info.fps)
