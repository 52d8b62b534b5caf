"""The joints of a `PoseSequence` as pixels of a video's frames."""

import numpy as np
from numpy.typing import NDArray

from unianimate.pose import PoseSequence
from unianimate.pose.sequence import MISSING

Flags = NDArray[np.bool_]
Pixels = NDArray[np.int64]


def visible_points(poses: PoseSequence) -> Flags:
    """Return which body points (F, 20) are visible and have coordinates."""
    return np.asarray(poses.visible & (poses.bodies != MISSING).all(axis=-1))


def pixels_inside(
    points: NDArray[np.float64], visible: Flags, height: int, width: int
) -> list[Pixels]:
    """Return, frame by frame, the pixels (n, 2) as x, y of the visible points inside the frame.

    Args:
        points: (F, K, 2) as x / width and y / height.
        visible: (F, K).
        height: of the frames, in pixels.
        width: likewise.
    """
    pixels = np.floor(points * (width, height)).astype(np.int64)
    inside = ((pixels >= 0) & (pixels < (width, height))).all(axis=-1)
    return [frame[seen] for frame, seen in zip(pixels, visible & inside)]


def expect_poses(got: int, wanted: int, name: str) -> None:
    """Raise ValueError unless there is a pose for every frame."""
    if got != wanted:
        raise ValueError(f"{name}: wanted a pose for each of {wanted} frames, got {got}")
