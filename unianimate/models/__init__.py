"""The UniAnimate network, its VAE and encoders, and the whole model built of them."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from unianimate.models.config import UniAnimateConfig
from unianimate.models.presets import PRESETS
from unianimate.models.unet3d import (
    Conditions,
    LevelSpec,
    Mamba2Spec,
    MambaSpec,
    TemporalTransformerSpec,
    UNet3D,
    UNet3DConfig,
    predict_both,
)

if TYPE_CHECKING:
    from unianimate.models.image_encoder import ImageEncoder
    from unianimate.models.unianimate import UniAnimate
    from unianimate.models.vae import VAE

__all__ = [
    "PRESETS",
    "VAE",
    "Conditions",
    "ImageEncoder",
    "LevelSpec",
    "Mamba2Spec",
    "MambaSpec",
    "TemporalTransformerSpec",
    "UNet3D",
    "UNet3DConfig",
    "UniAnimate",
    "UniAnimateConfig",
    "predict_both",
]

_HOME = {"VAE": "vae", "ImageEncoder": "image_encoder", "UniAnimate": "unianimate"}


def __getattr__(name: str) -> Any:
    """Load the parts that need more than torch when they are first used."""
    if name not in _HOME:
        raise AttributeError(f"module 'unianimate.models' has no attribute {name!r}")
    return getattr(import_module(f"unianimate.models.{_HOME[name]}"), name)
