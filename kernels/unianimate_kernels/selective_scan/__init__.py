"""Mamba's selective scan over the frames of a video."""

from .api import ScanOutput, selective_scan

__all__ = ["ScanOutput", "selective_scan"]
