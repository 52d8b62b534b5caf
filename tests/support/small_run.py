"""The smallest photo, poses and model that make a video."""

import numpy as np
import torch
from PIL import Image

from unianimate.models import PRESETS, UniAnimate
from unianimate.pose import PoseSequence


def random_pose(frames: int, seed: int) -> PoseSequence:
    """Return a person who trembles."""
    random = np.random.default_rng(seed)
    return PoseSequence(
        bodies=random.uniform(0.2, 0.8, (1, 20, 2)) + random.normal(0, 0.02, (frames, 20, 2)),
        visible=np.ones((frames, 20), dtype=bool),
        hands=random.uniform(0.2, 0.8, (frames, 2, 21, 2)),
        faces=np.full((frames, 68, 2), -1.0),
        width=64,
        height=96,
        fps=12,
    )


def photo() -> Image.Image:
    """Return 40 x 60 pixels of noise."""
    pixels = np.random.default_rng(0).integers(0, 255, (60, 40, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def small_model(seed: int = 0) -> UniAnimate:
    """Return the smallest model with every zero-initialised weight made to count."""
    torch.manual_seed(seed)
    model = UniAnimate(PRESETS["test"]).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(std=0.02)
    return model
