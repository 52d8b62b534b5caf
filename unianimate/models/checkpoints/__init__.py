"""The official checkpoints and ours: pure key maps, and the converter between the files."""

from unianimate.models.checkpoints.clip import (
    image_encoder_from_official,
    text_encoder_from_official,
)
from unianimate.models.checkpoints.unet import unet_from_official, unet_to_official
from unianimate.models.checkpoints.vae import vae_from_official

__all__ = [
    "image_encoder_from_official",
    "text_encoder_from_official",
    "unet_from_official",
    "unet_to_official",
    "vae_from_official",
]
