"""What commands that animate are given: a model, and poses from any kind of file."""

import logging
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

    from unianimate.pose import PoseSequence, PoseSource

_log = logging.getLogger(__name__)


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


def driving_fps(driving: Path, every: int) -> float:
    """Return the frames a second of `driving_poses`, without looking for any pose.

    Args:
        driving: a video, a pose file or a folder of pose pictures.
        every: use each n-th pose.

    Raises:
        ValueError: a file that cannot be used.
        OSError: a file that is missing.
    """
    from unianimate.data import probe_video
    from unianimate.pose import FolderPoses, PosePictures, PoseSequence
    from unianimate.pose.source import DEFAULT_FPS

    if driving.is_dir():
        return FolderPoses(PosePictures.open(driving), every).fps
    opened = PoseSequence.load(driving) if _is_pose_file(driving) else probe_video(driving)
    return opened.fps / every or DEFAULT_FPS


def driving_poses(
    reference: Path,
    photo: "Image.Image",
    driving: Path,
    reference_pose: Path | None,
    no_align: bool,
    every: int,
    frames: int | None = None,
) -> "PoseSource":
    """Return the driving poses: a folder as it is, key points aligned to the photo's pose.

    Args:
        reference: where the photo is; its pose may lie beside it.
        photo: the photo itself.
        driving: a video, a pose file or a folder of pose pictures.
        reference_pose: pose file or picture of the photo's pose, if it was named.
        no_align: take the driving poses as they are.
        every: use each n-th pose.
        frames: look for no more poses in a video than so many frames need; None looks for all.

    Raises:
        ValueError: a file that cannot be used, or shows no person, or a pose of the photo or
            ``no_align`` beside a folder, which has its own and is aligned.
        OSError: a file that is missing, or the pose of the photo is not to be found.
    """
    from unianimate.pose import DrawnPoses, FolderPoses, PosePictures, PoseSequence, align_pose

    if driving.is_dir():
        if reference_pose is not None:
            raise ValueError(
                f"{driving}: a pose folder is aligned to its own pose of the photo; leave "
                f"--reference-pose out, or give a pose file (.npz) or a video instead"
            )
        if no_align:
            raise ValueError(f"{driving}: a pose folder is aligned already; leave --no-align out")
        _log.info("poses: the pictures in %s, aligned already", driving)
        pictures = FolderPoses(PosePictures.open(driving), every)
        _log.info("digest of all pictures, none is damaged: %s", pictures.digest)
        return pictures
    target = _reference_pose(reference, photo, reference_pose)
    if _is_pose_file(driving):
        sequence = PoseSequence.load(driving)
    else:
        sequence = _extract(driving, None if frames is None else (frames - 1) * every + 1)
    _expect_person(driving, sequence)
    return DrawnPoses(sequence if no_align else align_pose(sequence, target), target, every)


def _reference_pose(reference: Path, photo: "Image.Image", named: Path | None) -> "PoseSequence":
    """Return the photo's pose: the file named, the one beside the photo, or by extraction."""
    from unianimate.pose import PoseSequence

    beside = reference.with_name(f"{reference.stem}_pose.npz")
    if named is not None and not _is_pose_file(named):
        source, pose = named, _find_pose(named)
    elif named is not None or beside.is_file():
        source = named or beside
        pose = PoseSequence.load(source)
    else:
        source = reference
        try:
            pose = _find_pose(reference, photo)
        except (FileNotFoundError, ImportError) as error:
            raise FileNotFoundError(
                f"the pose of {reference} is not known: name it with --reference-pose, put "
                f"{beside.name} beside the photo, or let it be found: {error}"
            ) from error
    _log.info("pose of the photo: %s", source)
    _expect_person(source, pose[:1])
    return pose


def _is_pose_file(path: Path) -> bool:
    return path.suffix.lower() == ".npz"


def _find_pose(path: Path, photo: "Image.Image | None" = None) -> "PoseSequence":
    import numpy as np

    from unianimate.data import open_picture
    from unianimate.pose import DWPose

    return DWPose()([np.asarray(photo or open_picture(path))])


def _extract(video: Path, frames: int | None) -> "PoseSequence":
    from unianimate.data import probe_video, read_video
    from unianimate.pose import DWPose

    info = probe_video(video)
    _log.info("poses: found in %s, %d x %d, %g fps", video, info.width, info.height, info.fps)
    return DWPose()(islice(read_video(video), frames), fps=info.fps)


def _expect_person(path: Path, pose: "PoseSequence") -> None:
    if not pose.visible.any():
        where = "it" if len(pose) == 1 else f"its first {len(pose)} frames"
        raise ValueError(
            f"{path}: no person is seen in {where}; give one that shows a person, whole if possible"
        )
