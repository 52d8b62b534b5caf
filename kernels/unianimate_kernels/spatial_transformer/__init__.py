"""A transformer over the locations of each frame, which also look at a context."""

from .api import spatial_transformer

__all__ = ["spatial_transformer"]
