"""Videos as the metrics take them: checked, in one range, in one size."""

from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Bytes: TypeAlias = NDArray[np.uint8]
Array: TypeAlias = NDArray[np.float64]

# of float frames: what rounding in float16 can add to 1
_SLACK = 1e-3


def to_levels(video: ArrayLike, name: str = "video") -> Array:
    """Return frames (F, H, W, 3) as float64 grey levels, 0 to 255, not rounded.

    Args:
        video: uint8, or float in [0, 1].
        name: how errors call it.

    Raises:
        ValueError: another shape, dtype or range.
    """
    frames = _checked(video, name)
    if frames.dtype == np.uint8:
        return frames.astype(np.float64)
    return np.clip(frames.astype(np.float64), 0, 1) * 255


def to_bytes(video: ArrayLike, name: str = "video") -> Bytes:
    """Return frames (F, H, W, 3) as uint8, rounded to the nearest level; else as `to_levels`."""
    frames = _checked(video, name)
    if frames.dtype != np.uint8:
        frames = np.rint(to_levels(frames))
    return frames.astype(np.uint8, copy=False)


def levels_of_pair(generated: ArrayLike, truth: ArrayLike) -> tuple[Array, Array]:
    """Return two videos of one shape by `to_levels`."""
    a, b = to_levels(generated, "generated"), to_levels(truth, "truth")
    _expect_same_shape(a.shape, b.shape)
    return a, b


def bytes_of_pair(generated: ArrayLike, truth: ArrayLike) -> tuple[Bytes, Bytes]:
    """Return two videos of one shape by `to_bytes`."""
    a, b = to_bytes(generated, "generated"), to_bytes(truth, "truth")
    _expect_same_shape(a.shape, b.shape)
    return a, b


def resize_frames(video: Bytes, width: int, height: int) -> Bytes:
    """Stretch frames by cv2's default (bilinear, without smoothing), as DisCo's tool does."""
    import cv2

    if video.shape[1:3] == (height, width):
        return video
    return np.stack([cv2.resize(frame, (width, height)) for frame in video]).astype(np.uint8)


def _checked(video: ArrayLike, name: str) -> NDArray[np.generic]:
    frames = np.asarray(video)
    if frames.ndim != 4 or frames.shape[3] != 3 or 0 in frames.shape:
        raise ValueError(f"{name}: frames are (F, H, W, 3), F at least 1, got {frames.shape}")
    if frames.dtype == np.uint8:
        return frames
    if not np.issubdtype(frames.dtype, np.floating):
        raise ValueError(f"{name}: frames are uint8, or float in [0, 1], got {frames.dtype}")
    low, high = float(frames.min()), float(frames.max())
    # also false for NaN
    if not (low >= -_SLACK and high <= 1 + _SLACK):
        raise ValueError(f"{name}: float frames are in [0, 1], got {low:g} to {high:g}")
    return frames


def _expect_same_shape(generated: tuple[int, ...], truth: tuple[int, ...]) -> None:
    if generated != truth:
        raise ValueError(f"generated and truth must have one shape, got {generated} and {truth}")
