"""Two 3x3 convolutions of frames, each behind a normalisation, and the residual."""

from .api import resnet_block

__all__ = ["resnet_block"]
