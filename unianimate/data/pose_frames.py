"""Poses as the network is shown them: drawn at the official size, then stretched to its own."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unianimate.pose.draw import draw_pose
from unianimate.pose.sequence import PoseSequence

from .pictures import fit_picture


def draw_pose_frames(poses: PoseSequence, width: int, height: int) -> NDArray[np.uint8]:
    """Draw poses at 768 x 512 and stretch them, because line widths do not scale.

    Args:
        poses: F frames.
        width: of the result, in pixels.
        height: likewise.

    Returns:
        uint8 RGB (F, height, width, 3).
    """
    frames = np.empty((len(poses), height, width, 3), dtype=np.uint8)
    for index, frame in enumerate(frames):
        drawn = Image.fromarray(draw_pose(poses[index : index + 1])[0])
        frame[:] = np.asarray(fit_picture(drawn, width, height))
    return frames
