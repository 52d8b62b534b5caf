"""The 3x1x1 convolution over frames."""

from .api import temporal_conv

__all__ = ["temporal_conv"]
