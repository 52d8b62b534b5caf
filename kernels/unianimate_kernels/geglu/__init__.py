"""The gated GELU of the transformer blocks' feed-forward layers."""

from .api import geglu

__all__ = ["geglu"]
