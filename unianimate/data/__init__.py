"""Pictures and videos in and out, and the videos that training draws its clips from."""

from .contact_sheet import contact_sheet
from .layouts import find_poses, list_videos, open_video_set, pose_file
from .pictures import fit_picture, open_picture
from .posed_videos import PosedVideo, PosedVideos
from .puppet_videos import PuppetVideos
from .puppets import Puppet, puppet_gallery
from .video import VideoInfo, VideoWriter, probe_video, read_video

__all__ = [
    "PosedVideo",
    "PosedVideos",
    "Puppet",
    "PuppetVideos",
    "VideoInfo",
    "VideoWriter",
    "contact_sheet",
    "find_poses",
    "fit_picture",
    "list_videos",
    "open_picture",
    "open_video_set",
    "pose_file",
    "probe_video",
    "puppet_gallery",
    "read_video",
]
