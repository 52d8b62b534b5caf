"""UNet3D: the network, its configuration, and the conditions it reads."""

from unianimate.models.unet3d.conditions import Conditions, ConditionTensors, Kept, draw_kept
from unianimate.models.unet3d.config import (
    LevelSpec,
    Mamba2Spec,
    MambaSpec,
    TemporalTransformerSpec,
    UNet3DConfig,
)
from unianimate.models.unet3d.guidance import predict_both
from unianimate.models.unet3d.model import UNet3D

__all__ = [
    "ConditionTensors",
    "Conditions",
    "Kept",
    "LevelSpec",
    "Mamba2Spec",
    "MambaSpec",
    "TemporalTransformerSpec",
    "UNet3D",
    "UNet3DConfig",
    "draw_kept",
    "predict_both",
]
