"""The feed-forward of a transformer: normalisation, two layers around a gated GELU, residual."""

from .api import feed_forward

__all__ = ["feed_forward"]
