"""A video on one picture: chosen frames under the poses that drove them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Picture = NDArray[np.uint8]


def contact_sheet(
    reference: tuple[Picture, Picture],
    poses: Sequence[Picture],
    frames: Sequence[Picture],
    *,
    columns: int = 7,
    height: int = 256,
) -> Picture:
    """Return two rows of pictures: poses above frames, the reference and its pose in front.

    Args:
        reference: the reference's pose and the reference, uint8 RGB of any size.
        poses: one a frame, uint8 RGB of any size.
        frames: uint8 RGB (H, W, 3), all of one size, whose shape every cell gets.
        columns: frames shown, evenly chosen from the first to the last.
        height: of a cell, in pixels.

    Returns:
        uint8 RGB (2 height, (1 + columns) width, 3).

    Raises:
        ValueError: no frames, not one pose a frame, or numbers below one.
    """
    if not frames or len(frames) != len(poses):
        raise ValueError(
            f"contact_sheet: wants frames and one pose each, got {len(frames)} and {len(poses)}"
        )
    if columns < 1 or height < 1:
        raise ValueError(
            f"contact_sheet: columns and height must be at least 1, got {columns} and {height}"
        )
    width = max(1, round(height * frames[0].shape[1] / frames[0].shape[0]))
    shown = np.linspace(0, len(frames) - 1, min(columns, len(frames))).round().astype(int)
    rows = (
        [reference[0], *(poses[index] for index in shown)],
        [reference[1], *(frames[index] for index in shown)],
    )
    return np.concatenate(
        [np.concatenate([_cell(picture, width, height) for picture in row], 1) for row in rows]
    )


def _cell(picture: Picture, width: int, height: int) -> Picture:
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))
