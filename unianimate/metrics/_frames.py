"""Videos as the metrics take them: checked whole, and converted frame by frame.

A video as float64 takes eight times its bytes, and a step of a metric several such copies.
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Frames: TypeAlias = NDArray[np.generic]  # uint8, or float in [0, 1]
Bytes: TypeAlias = NDArray[np.uint8]
Array: TypeAlias = NDArray[np.float64]

# of float frames: what rounding in float16 can add to 1
_SLACK = 1e-3


def expect_video(video: ArrayLike, name: str = "video") -> Frames:
    """Return a video (F, H, W, 3) as an array, checked and not converted.

    Args:
        video: uint8, or float in [0, 1].
        name: how errors call it.

    Raises:
        ValueError: another shape, dtype or range.
    """
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


def expect_pair(generated: ArrayLike, truth: ArrayLike) -> tuple[Frames, Frames]:
    """Return two videos by `expect_video`, if they have one shape."""
    made, real = expect_video(generated, "generated"), expect_video(truth, "truth")
    if made.shape != real.shape:
        raise ValueError(
            f"generated and truth must have one shape, got {made.shape} and {real.shape}"
        )
    return made, real


def to_levels(frame: Frames) -> Array:
    """Return a checked frame as float64 grey levels, 0 to 255, not rounded."""
    levels = frame.astype(np.float64)
    return levels if frame.dtype == np.uint8 else np.clip(levels, 0, 1) * 255


def to_bytes(frame: Frames) -> Bytes:
    """Return a checked frame as uint8, rounded to the nearest level."""
    if frame.dtype != np.uint8:
        frame = np.rint(to_levels(frame))
    return frame.astype(np.uint8, copy=False)


def video_to_bytes(video: ArrayLike, name: str = "video") -> Bytes:
    """Return a whole video by `to_bytes`, checked as by `expect_video`."""
    frames = expect_video(video, name)
    if frames.dtype == np.uint8:
        return to_bytes(frames)
    return np.stack([to_bytes(frame) for frame in frames])


def resize_frames(video: Bytes, width: int, height: int) -> Bytes:
    """Stretch frames by cv2's default (bilinear, without smoothing), as DisCo's tool does."""
    import cv2

    if video.shape[1:3] == (height, width):
        return video
    resized = np.empty((len(video), height, width, 3), np.uint8)
    for place, frame in zip(resized, video):
        place[:] = cv2.resize(frame, (width, height))
    return resized
