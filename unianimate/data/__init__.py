"""Pictures and videos in and out, and the videos that training draws its clips from."""

from .contact_sheet import contact_sheet
from .pictures import fit_picture, open_picture
from .puppet_videos import PuppetVideos
from .puppets import Puppet, puppet_gallery
from .video import VideoInfo, VideoWriter, probe_video, read_video

__all__ = [
    "Puppet",
    "PuppetVideos",
    "VideoInfo",
    "VideoWriter",
    "contact_sheet",
    "fit_picture",
    "open_picture",
    "probe_video",
    "puppet_gallery",
    "read_video",
]
