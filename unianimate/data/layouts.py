"""Where the videos of a data set are, and where their poses: a folder, TikTok, UBC Fashion."""

import logging
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

from unianimate.pose.listing import list_files, list_pictures

from .frames import VIDEO_SUFFIXES
from .posed_videos import PosedVideo, PosedVideos
from .region import Fit

_log = logging.getLogger(__name__)

Layout = Literal["folder", "tiktok", "fashion"]
Split = Literal["train", "test"]

_POSES = "_pose"
# DisCo tests on these and on videos of its own; they show people that the others do not
_FIRST_TIKTOK_TEST = 335


class VideoFile(NamedTuple):
    """A video of a data set: its name there without a suffix, and its file or folder of frames."""

    name: str
    path: Path


def list_videos(layout: Layout, folder: str | Path, split: Split | None = None) -> list[VideoFile]:
    """List the videos of a data set in the order of their names.

    Args:
        layout: "folder": video files, and folders with one picture a frame. "tiktok": the public
            release of TikTok (Jafarian and Park, CVPR 2021): ``00001/images/0001.png``; masks and
            DensePose are not used. "fashion": UBC Fashion (DwNet, BMVC 2019): ``train/*.mp4`` and
            ``test/*.mp4``.
        folder: where it is.
        split: "train", "test", or None for all. TikTok's test videos are 335 to 340, as in DisCo
            (github.com/Wangt-CN/DisCo, issue 27); a plain folder has only videos to train on.

    Raises:
        ValueError: there are no such videos, two share a name, or another word for ``layout``.
        OSError: the folder cannot be read.
    """
    if layout not in _LAYOUTS:
        raise ValueError(f"list_videos: layout must be {', '.join(_LAYOUTS)}, got {layout!r}")
    find, looks_like = _LAYOUTS[layout]
    folder = Path(folder)
    videos = find(folder, split)
    if not videos:
        wanted = f"{split} videos" if split else "videos"
        raise ValueError(
            f"{folder}: there are no {wanted} in it; a data set of layout {layout} has {looks_like}"
        )
    names: dict[str, Path] = {}
    for name, path in videos:
        if names.setdefault(name, path) != path:
            raise ValueError(f"{names[name]} and {path} would share their poses; rename one")
    return videos


def pose_file(video: VideoFile, poses: Path) -> Path:
    """Return where `unianimate pose extract` writes the poses of a video, below ``poses``."""
    return poses / f"{video.name}{_POSES}.npz"


def find_poses(video: VideoFile, poses: Path) -> Path | None:
    """Return the poses of a video: NAME_pose.npz, NAME.npz or a folder NAME_pose of pictures."""
    written = pose_file(video, poses)
    for path in (written, poses / f"{video.name}.npz"):
        if path.is_file():
            return path
    pictures = written.with_suffix("")
    return pictures if pictures.is_dir() else None


def open_video_set(
    layout: Layout,
    folder: str | Path,
    width: int,
    height: int,
    *,
    split: Split | None = "train",
    poses: str | Path | None = None,
    fit: Fit = "crop",
    enlarge: bool = False,
) -> PosedVideos:
    """Open the videos of a data set that have poses; the others are counted in a warning.

    Args:
        layout: see `list_videos`.
        folder: where the videos are.
        width: of the pictures, in pixels.
        height: likewise.
        split: see `list_videos`.
        poses: where the poses are; None: in ``folder``.
        fit: "crop" or "stretch": see `training_region`.
        enlarge: take videos that are smaller than width x height.

    Raises:
        ValueError: there are no videos, or none has poses.
        OSError: the folder cannot be read.
    """
    where = Path(folder if poses is None else poses)
    found = [(video, find_poses(video, where)) for video in list_videos(layout, folder, split)]
    posed = [PosedVideo(video.path, path) for video, path in found if path is not None]
    without = [video.name for video, path in found if path is None]
    if without:
        command = f"unianimate pose extract {shlex.quote(str(folder))} --layout {layout}"
        command += "" if poses is None else f" -o {shlex.quote(str(poses))}"
        message = (
            f"{folder}: {len(without)} of {len(found)} videos have no poses, the first is "
            f"{without[0]}; make them with `{command}`"
        )
        if not posed:
            raise ValueError(message)
        _log.warning("%s", message)
    return PosedVideos(posed, width, height, fit=fit, enlarge=enlarge)


def _folder_videos(folder: Path, split: Split | None) -> list[VideoFile]:
    if split == "test":
        return []
    found = [VideoFile(path.stem, path) for path in list_files(folder, VIDEO_SUFFIXES)]
    found += [
        VideoFile(path.name, path)
        for path in _subfolders(folder)
        if not path.name.endswith(_POSES) and list_pictures(path)
    ]
    # NAME_pose.mp4 shows the poses of NAME
    shown = {video.name + _POSES for video in found}
    return [video for video in found if video.name not in shown]


def _tiktok_videos(folder: Path, split: Split | None) -> list[VideoFile]:
    videos = [
        VideoFile(path.name, path / "images")
        for path in _subfolders(folder)
        if path.name.isdecimal() and (path / "images").is_dir()
    ]
    if split is None:
        return videos
    return [x for x in videos if (int(x.name) >= _FIRST_TIKTOK_TEST) == (split == "test")]


def _fashion_videos(folder: Path, split: Split | None) -> list[VideoFile]:
    parts = [folder / part for part in ("train", "test") if split in (None, part)]
    return [
        VideoFile(f"{part.name}/{path.stem}", path)
        for part in parts
        if part.is_dir()
        for path in list_files(part, VIDEO_SUFFIXES)
    ]


def _subfolders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


_LAYOUTS: dict[str, tuple[Callable[[Path, Split | None], list[VideoFile]], str]] = {
    "folder": (_folder_videos, "video files, or folders with one picture a frame"),
    "tiktok": (_tiktok_videos, "folders like 00001/images with one picture a frame"),
    "fashion": (_fashion_videos, "mp4 files in train and test"),
}
