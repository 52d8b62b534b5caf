"""Mamba-2's scan (state-space duality) over the frames of a video."""

from .api import ssd_scan

__all__ = ["ssd_scan"]
