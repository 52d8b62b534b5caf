"""Four convolutions over the frames, each behind a normalisation of the clip, and the residual."""

from .api import temporal_conv_block

__all__ = ["temporal_conv_block"]
