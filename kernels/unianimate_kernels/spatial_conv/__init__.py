"""A 3x3 convolution of pictures, zero padded."""

from .api import spatial_conv

__all__ = ["spatial_conv"]
