"""The op `rms_norm`."""

from .api import rms_norm

__all__ = ["rms_norm"]
