"""From noise to video: the denoising loop, windows, long videos and the whole pipeline."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .checkpoint import Checkpoint
from .denoise import denoise
from .distributed import Processes, torchrun_processes
from .long_video import Chain, LongVideo, Segment, Single, Window
from .schedulers import SCHEDULERS, make_scheduler
from .side_by_side import side_by_side_frames
from .windows import plan_windows

if TYPE_CHECKING:
    from .animate import AnimatePipeline

__all__ = [
    "SCHEDULERS",
    "AnimatePipeline",
    "Chain",
    "Checkpoint",
    "LongVideo",
    "Processes",
    "Segment",
    "Single",
    "Window",
    "denoise",
    "make_scheduler",
    "plan_windows",
    "side_by_side_frames",
    "torchrun_processes",
]


def __getattr__(name: str) -> Any:
    """Load the pipeline, which needs diffusers and transformers, when it is first used."""
    if name != "AnimatePipeline":
        raise AttributeError(f"module 'unianimate.pipelines' has no attribute {name!r}")
    return import_module("unianimate.pipelines.animate").AnimatePipeline
