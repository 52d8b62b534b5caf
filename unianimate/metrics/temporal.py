"""Temporal consistency: the warping error, along the motion of the true video."""

import numpy as np
from numpy.typing import ArrayLike

from ._frames import Array, Bytes, expect_pair, to_bytes

# (Lai et al. 2018): forward and backward flow agree within this share of their squared lengths
_AGREEMENT, _ALLOWANCE = 0.01, 0.5


def warping_error(generated: ArrayLike, truth: ArrayLike) -> Array:
    """Return how much the generated video changes along the true motion (F - 1,), grey levels.

    Frame t + 1 is warped back to frame t by the optical flow of the *true* video (OpenCV's DIS,
    which has no trained weights), and compared with frame t by mean absolute difference where the
    flow is trusted: not hidden, by agreement of forward and backward flow, and not leaving the
    frame. This is the error of Lai et al. (2018, "Learning Blind Video Temporal Consistency"),
    as absolute instead of squared difference, with OpenCV's flow.

    The generated video's own flow would call a still picture perfect; with the true flow it is
    wrong wherever something should have moved. A steady error of colour costs nothing, flicker
    and crawling do. Changes that belong there (shadows, cloth) and the limits of the flow remain:
    ``warping_error(truth, truth)`` is the floor, not zero.

    Args:
        generated: (F, H, W, 3), uint8 or float in [0, 1], F at least 2, 16 x 16 pixels or more.
        truth: likewise, of the same shape.

    Returns:
        (F - 1,); NaN where the flow can be trusted nowhere, as at a cut.

    Raises:
        ValueError: shapes that differ, another dtype or range, one frame, or tiny frames.
    """
    import cv2

    made, real = expect_pair(generated, truth)
    if len(real) < 2 or min(real.shape[1:3]) < 16:
        raise ValueError(
            f"warping_error: wanted at least 2 frames of at least 16 x 16 pixels, got {real.shape}"
        )
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    errors = np.full(len(real) - 1, np.nan)
    for t in range(len(errors)):
        now, later = (cv2.cvtColor(to_bytes(x), cv2.COLOR_RGB2GRAY) for x in real[t : t + 2])
        forward, backward = flow.calc(now, later, None), flow.calc(later, now, None)
        back, inside = _warp(backward, forward)
        lengths = (forward**2).sum(axis=2) + (back**2).sum(axis=2)
        closed = ((forward + back) ** 2).sum(axis=2) <= _AGREEMENT * lengths + _ALLOWANCE
        trusted = inside & closed
        if trusted.any():
            frame, warped = to_bytes(made[t]), _warp(to_bytes(made[t + 1]), forward)[0]
            errors[t] = np.abs(warped[trusted].astype(np.float64) - frame[trusted]).mean()
    return errors


def _warp(image: Bytes | np.ndarray, flow: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return an image read where the flow leads, and which places are inside the frame."""
    import cv2

    height, width = flow.shape[:2]
    x = flow[..., 0] + np.arange(width, dtype=np.float32)
    y = flow[..., 1] + np.arange(height, dtype=np.float32)[:, None]
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    return cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), inside
