"""Poses of one person over time: files, alignment to a reference, drawing."""

from .align import align_pose
from .draw import draw_pose
from .sequence import PoseSequence

__all__ = ["PoseSequence", "align_pose", "draw_pose"]
