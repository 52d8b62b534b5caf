"""Mamba's selective scan in both directions of time, gated once."""

from .api import bidirectional_selective_scan

__all__ = ["bidirectional_selective_scan"]
