"""A picture of puppets in motion, with the poses that are drawn for them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..pose_frames import draw_pose_frames
from .puppet import Puppet

Picture = NDArray[np.uint8]


def puppet_gallery(
    puppets: Sequence[Puppet],
    columns: int = 5,
    *,
    height: int = 192,
    width: int = 144,
    every: int = 4,
    overlay: bool = False,
) -> Picture:
    """Return rows of puppets: the reference, then frames, each beside its drawn pose.

    Args:
        puppets: one a row.
        columns: frames a row, without the reference.
        height: of a frame, in pixels.
        width: likewise.
        every: frames at 8 a second between two columns.
        overlay: lay the poses over the frames instead of beside them.

    Returns:
        uint8 RGB, rows below each other.

    Raises:
        ValueError: no puppets, or fewer than one column.
    """
    if not puppets or columns < 1:
        raise ValueError(
            f"puppet_gallery: wants puppets and a column, got {len(puppets)} and {columns}"
        )
    rows = []
    for puppet in puppets:
        photo, standing = puppet.reference(height, width)
        video, poses = puppet.render(range(0, columns * every, every), height, width)
        frames = [photo, *video]
        drawn = (draw_pose_frames(each, width, height) for each in (standing, poses))
        cells = [
            np.where(pose.any(axis=-1, keepdims=True), pose // 2 + frame // 2, frame)
            if overlay
            else np.concatenate([frame, pose], axis=1)
            for frame, pose in zip(frames, np.concatenate([*drawn]))
        ]
        rows.append(np.concatenate(cells, axis=1))
    return np.concatenate(rows)
