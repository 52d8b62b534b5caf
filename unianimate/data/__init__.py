"""Pictures and videos in and out, and puppets to train on."""

from .pictures import fit_picture, open_picture
from .puppets import Puppet, puppet_gallery
from .video import VideoInfo, VideoWriter, probe_video, read_video

__all__ = [
    "Puppet",
    "VideoInfo",
    "VideoWriter",
    "fit_picture",
    "open_picture",
    "probe_video",
    "puppet_gallery",
    "read_video",
]
