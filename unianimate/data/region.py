"""`Region`: the part of a video that training sees, the same for its pictures and its poses."""

from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unianimate.pose.sequence import MISSING, PoseSequence

Fit = Literal["crop", "stretch"]


class Region(NamedTuple):
    """A part of a picture, in parts of its width and height."""

    left: float = 0.0
    top: float = 0.0
    right: float = 1.0
    bottom: float = 1.0

    def cut(self, picture: Image.Image, width: int, height: int) -> Image.Image:
        """Return this part of a picture of any size, resized to width x height."""
        box = (
            self.left * picture.width,
            self.top * picture.height,
            self.right * picture.width,
            self.bottom * picture.height,
        )
        return picture.resize((width, height), Image.Resampling.BILINEAR, box=box)

    def place(self, poses: PoseSequence) -> PoseSequence:
        """Return poses in coordinates of this part; points outside it stay, beyond [0, 1]."""
        corner = np.array([self.left, self.top])
        size = np.array([self.right - self.left, self.bottom - self.top])

        def move(points: NDArray[np.float64]) -> NDArray[np.float64]:
            missing = (points == MISSING).all(axis=-1, keepdims=True)
            return np.where(missing, MISSING, (points - corner) / size)

        return replace(
            poses,
            bodies=move(poses.bodies),
            hands=move(poses.hands),
            faces=move(poses.faces),
            width=max(1, round(poses.width * size[0])),
            height=max(1, round(poses.height * size[1])),
        )


def training_region(
    width: int,
    height: int,
    target_width: int,
    target_height: int,
    *,
    fit: Fit = "crop",
    enlarge: bool = False,
) -> Region:
    """Return the part of a video that is resized to the size of training.

    The authors of UniAnimate train at 512 x 768 on videos that are larger, and leave out smaller
    ones (github.com/ali-vilab/UniAnimate, issues 5 and 25). How they bring the rest to that size
    is not published. Here the middle is cut out at the target's aspect ratio, so that people keep
    their proportions; "stretch" takes all of it, as the official sampler does with its photo.

    Args:
        width: of the video, in pixels.
        height: likewise.
        target_width: of training, in pixels.
        target_height: likewise.
        fit: "crop" or "stretch".
        enlarge: take smaller videos, too.

    Raises:
        ValueError: the video is smaller, or another word for ``fit``.
    """
    if fit not in ("crop", "stretch"):
        raise ValueError(f"training_region: fit must be crop or stretch, got {fit!r}")
    if not enlarge and (width < target_width or height < target_height):
        raise ValueError(
            f"{width} x {height} pixels are less than the {target_width} x {target_height} of "
            f"training"
        )
    if fit == "stretch":
        return Region()
    scale = max(target_width / width, target_height / height)
    # rounding must not put an edge outside
    left = max(0.0, (1 - target_width / (scale * width)) / 2)
    top = max(0.0, (1 - target_height / (scale * height)) / 2)
    return Region(left, top, 1 - left, 1 - top)
