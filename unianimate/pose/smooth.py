"""Smooth a pose over time, for detectors that jitter."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .sequence import MISSING, PoseSequence


def smooth_pose(pose: PoseSequence, frames: float = 1.0) -> PoseSequence:
    """Average every point over its neighbours in time with Gaussian weights.

    Missing points stay missing and have no weight in the average of others.

    Args:
        pose: F frames.
        frames: standard deviation of the weights, in frames; 0 changes nothing.

    Raises:
        ValueError: a negative width.
    """
    if frames < 0:
        raise ValueError(f"smooth_pose: frames must be 0 or more, got {frames}")
    if frames == 0:
        return pose
    reach = int(np.ceil(3 * frames))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / frames) ** 2)

    def smooth(points: NDArray[np.float64]) -> NDArray[np.float64]:
        present = ~(points == MISSING).all(axis=-1, keepdims=True)
        total, weight = np.zeros_like(points), np.zeros_like(points[..., :1])
        for offset, w in zip(range(-reach, reach + 1), weights):
            low, high = max(0, -offset), min(len(points), len(points) - offset)
            if low < high:
                there = present[low + offset : high + offset]
                total[low:high] += w * there * points[low + offset : high + offset]
                weight[low:high] += w * there
        return np.where(present, total / np.maximum(weight, 1e-300), MISSING)

    return replace(
        pose, bodies=smooth(pose.bodies), hands=smooth(pose.hands), faces=smooth(pose.faces)
    )
