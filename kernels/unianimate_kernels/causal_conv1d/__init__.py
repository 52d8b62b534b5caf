"""The short depthwise convolution over frames that stands before a Mamba scan."""

from .api import ConvOutput, causal_conv1d

__all__ = ["ConvOutput", "causal_conv1d"]
