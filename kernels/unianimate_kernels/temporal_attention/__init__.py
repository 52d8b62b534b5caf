"""Softmax attention over the frames, at every location of the picture."""

from .api import temporal_attention

__all__ = ["temporal_attention"]
