"""Pictures and videos in and out."""

from .pictures import fit_picture, open_picture
from .video import VideoInfo, VideoWriter, probe_video, read_video

__all__ = [
    "VideoInfo",
    "VideoWriter",
    "fit_picture",
    "open_picture",
    "probe_video",
    "read_video",
]
