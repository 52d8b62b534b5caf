"""Softmax attention of tokens to one another, or to a context."""

from .api import spatial_attention

__all__ = ["spatial_attention"]
