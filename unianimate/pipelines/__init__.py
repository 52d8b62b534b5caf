"""From noise to video: the denoising loop, windows and long videos."""

from .denoise import denoise
from .windows import plan_windows

__all__ = ["denoise", "plan_windows"]
