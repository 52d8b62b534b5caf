"""Photo, pose and result beside each other, as the official system shows its videos."""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unianimate.data import fit_picture
from unianimate.data.pictures import Fit
from unianimate.pose import PoseSource

Frame = NDArray[np.uint8]


def side_by_side_frames(
    reference: Image.Image, poses: PoseSource, frames: Iterable[Frame], fit: Fit = "stretch"
) -> Iterator[Frame]:
    """Yield the columns [photo | pose | result] of every frame, uint8 RGB (H, 3 * W, 3).

    Photo and pose are shown as the network sees them, at the size of the result.

    Args:
        reference: the photo, upright RGB.
        poses: those that drive the frames.
        frames: the result from its first frame on, uint8 RGB (H, W, 3).
        fit: how the photo was brought to the size.
    """
    photo: Frame | None = None
    for number, frame in enumerate(frames):
        height, width = frame.shape[:2]
        if photo is None:
            photo = np.asarray(fit_picture(reference.convert("RGB"), width, height, fit))
        pose = fit_picture(Image.fromarray(poses.read([number])[0]), width, height)
        yield np.concatenate([photo, np.asarray(pose), frame], axis=1)
