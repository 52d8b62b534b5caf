"""A transformer over the frames: two attentions and a feed-forward between two projections."""

from .api import temporal_transformer

__all__ = ["temporal_transformer"]
