"""Poses that are in the right format and mean nothing."""

import numpy as np

from unianimate.pose import PoseSequence


def random_pose(frames: int, width: int = 100, height: int = 100, seed: int = 0) -> PoseSequence:
    """Return poses with bodies and hands, and no faces."""
    random = np.random.default_rng(seed)
    return PoseSequence(
        bodies=random.uniform(0.1, 0.9, (frames, 20, 2)),
        visible=np.ones((frames, 20), dtype=bool),
        hands=random.uniform(0.1, 0.9, (frames, 2, 21, 2)),
        faces=np.full((frames, 68, 2), -1.0),
        width=width,
        height=height,
    )
