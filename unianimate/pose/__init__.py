"""Poses of one person over time: files, alignment to a reference, drawing."""

from .align import align_pose
from .draw import draw_pose
from .extract import DWPose
from .pictures import PosePictures, write_pose_pictures
from .sequence import PoseSequence
from .smooth import smooth_pose
from .source import DrawnPoses, FolderPoses, PoseSource

__all__ = [
    "DWPose",
    "DrawnPoses",
    "FolderPoses",
    "PosePictures",
    "PoseSequence",
    "PoseSource",
    "align_pose",
    "draw_pose",
    "smooth_pose",
    "write_pose_pictures",
]
