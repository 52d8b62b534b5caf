"""Identity colour error: skin and clothes, compared where the body must be."""

import numpy as np
from numpy.typing import ArrayLike

from unianimate.pose import PoseSequence
from unianimate.pose import sequence as at

from ._frames import Array, Frames, expect_pair, to_bytes
from ._joints import Flags, Pixels, expect_poses, pixels_inside, visible_points

# of the frame's height
_RADIUS = 1 / 64

# the middles of limbs and trunk show clothes that joints miss
_SEGMENTS = (
    (at.RIGHT_SHOULDER, at.RIGHT_ELBOW),
    (at.RIGHT_ELBOW, at.RIGHT_WRIST),
    (at.LEFT_SHOULDER, at.LEFT_ELBOW),
    (at.LEFT_ELBOW, at.LEFT_WRIST),
    (at.RIGHT_HIP, at.RIGHT_KNEE),
    (at.RIGHT_KNEE, at.RIGHT_ANKLE),
    (at.LEFT_HIP, at.LEFT_KNEE),
    (at.LEFT_KNEE, at.LEFT_ANKLE),
    (at.NECK, at.RIGHT_HIP),
    (at.NECK, at.LEFT_HIP),
)


def identity_color_error(generated: ArrayLike, truth: ArrayLike, poses: PoseSequence) -> Array:
    """Return how wrong the colours of the body are in every frame (F,), as CIE 1976 delta E.

    Around each visible joint and the middle of each limb, the mean colours of a small square (a
    64th of the height to each side) in the generated and in the true frame are compared in
    CIELAB; the result is the mean distance. 2.3 is just noticeable, 10 a different shade, 50
    another colour. The mean over a square forgives blur and lost patterns, and the places are
    those of the true pose: a body elsewhere shows its background here, and is wrong.

    Args:
        generated: (F, H, W, 3), uint8 or float in [0, 1].
        truth: likewise, of the same shape.
        poses: F poses in the true video.

    Returns:
        (F,); NaN where no joint is visible.

    Raises:
        ValueError: shapes that differ, or another number of poses than of frames.
    """
    pair = expect_pair(generated, truth)
    count, height, width = pair[0].shape[:3]
    expect_poses(len(poses), count, "identity_color_error")
    places = pixels_inside(*_with_middles(poses), height, width)
    radius = max(1, round(height * _RADIUS))
    errors = np.full(count, np.nan)
    for frame, pixels in enumerate(places):
        if len(pixels):
            made, real = (_colours(video[frame], pixels, radius) for video in pair)
            errors[frame] = np.linalg.norm(made - real, axis=1).mean()
    return errors


def _with_middles(poses: PoseSequence) -> tuple[Array, Flags]:
    """Return body points and middles of segments (F, K, 2), and which are visible (F, K)."""
    one, other = np.array(_SEGMENTS).T
    visible = visible_points(poses)
    middles = (poses.bodies[:, one] + poses.bodies[:, other]) / 2
    return (
        np.concatenate([poses.bodies, middles], axis=1),
        np.concatenate([visible, visible[:, one] & visible[:, other]], axis=1),
    )


def _colours(frame: Frames, pixels: Pixels, radius: int) -> Array:
    """Return the mean colours (n, 3) about pixels, in CIELAB."""
    import cv2

    size = 2 * radius + 1
    levels = to_bytes(frame).astype(np.float32)
    means = cv2.blur(levels / 255, (size, size), borderType=cv2.BORDER_REPLICATE)
    x, y = pixels.T
    colours: Array = cv2.cvtColor(means[y, x][None], cv2.COLOR_RGB2LAB)[0].astype(np.float64)
    return colours
