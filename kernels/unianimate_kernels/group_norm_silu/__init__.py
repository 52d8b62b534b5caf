"""Group normalisation and SiLU in one pass over channels-last memory."""

from .api import group_norm_silu

__all__ = ["group_norm_silu"]
