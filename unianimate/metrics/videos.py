"""Generated and true videos on disk, matched by their names and read when they are needed."""

from collections.abc import Sequence
from pathlib import Path
from typing import overload

import numpy as np

from unianimate.data.frames import VIDEO_SUFFIXES, open_frames
from unianimate.data.layouts import VideoFile, find_poses, list_videos
from unianimate.pose import PoseSequence
from unianimate.pose.listing import list_files, list_pictures

from ._frames import Bytes


class VideoFiles(Sequence[Bytes]):
    """Videos as arrays uint8 (F, H, W, 3), each read when it is indexed and not kept.

    Args:
        paths: video files, or folders of pictures.
        num_frames: read the first so many of each; all by default.
    """

    def __init__(self, paths: Sequence[Path], num_frames: int | None = None) -> None:
        self._paths, self._num_frames = tuple(paths), num_frames

    def __len__(self) -> int:
        """How many videos there are."""
        return len(self._paths)

    @overload
    def __getitem__(self, index: int) -> Bytes: ...
    @overload
    def __getitem__(self, index: slice) -> "VideoFiles": ...
    def __getitem__(self, index: int | slice) -> "Bytes | VideoFiles":
        """Read a video.

        Raises:
            ValueError: damaged, too short, or frames of different sizes.
            OSError: it cannot be read.
        """
        if isinstance(index, slice):
            return VideoFiles(self._paths[index], self._num_frames)
        path = self._paths[index]
        reader = open_frames(path)
        try:
            wanted = len(reader) if self._num_frames is None else self._num_frames
            if wanted > len(reader):
                raise ValueError(f"{path}: wanted {wanted} frames, there are {len(reader)}")
            frames = reader.read(range(wanted))
        finally:
            reader.close()
        sizes = {frame.size for frame in frames}
        if len(sizes) > 1:
            raise ValueError(f"{path}: frames of different sizes: {sorted(sizes)}")
        width, height = frames[0].size
        video = np.empty((wanted, height, width, 3), np.uint8)
        for place, frame in zip(video, frames):
            place[:] = np.asarray(frame)
        return video


def match_videos(
    generated: Path, truth: Path, num_frames: int | None = None
) -> tuple[tuple[str, ...], VideoFiles, VideoFiles]:
    """Match videos by their names without suffix.

    Args:
        generated: a video, a folder of pictures (one video), or a folder that holds several of
            these; pictures beside them are left out.
        truth: likewise.
        num_frames: compare the first so many of each; all by default.

    Returns:
        The names, in the order of the true videos, and the videos.

    Raises:
        ValueError: one of them is a single video and the other is not, a name is only on one
            side, or twice on one side.
        OSError: a path is not there.
    """
    made, real = _find(generated), _find(truth)
    if isinstance(made, Path) and isinstance(real, Path):
        return (real.stem,), VideoFiles([made], num_frames), VideoFiles([real], num_frames)
    if isinstance(made, Path) or isinstance(real, Path):
        raise ValueError(
            f"{generated} and {truth}: one is a video and the other a folder of videos; name two "
            "videos or two folders"
        )
    for folder, there, wanted in ((generated, made, real), (truth, real, made)):
        lacks = [name for name in wanted if name not in there]
        if lacks:
            more = f" and {len(lacks) - 3} more" if len(lacks) > 3 else ""
            raise ValueError(
                f"{folder}: no video named {', '.join(lacks[:3])}{more}; generated and true videos "
                "are matched by their names"
            )
    return (
        tuple(real),
        VideoFiles([made[name] for name in real], num_frames),
        VideoFiles([real[name] for name in real], num_frames),
    )


def load_poses(
    path: Path, names: Sequence[str], num_frames: int | None = None
) -> list[PoseSequence]:
    """Read the poses of videos.

    Args:
        path: one ``.npz`` for a single video, or a folder of ``NAME_pose.npz``, which
            `unianimate pose extract` writes, or ``NAME.npz``.
        names: of the videos.
        num_frames: take the first so many of each; all by default.

    Raises:
        ValueError: a file is no pose file, or one file for several videos.
        OSError: a file is not there.
    """
    if path.is_dir():
        files = [find_poses(VideoFile(name, path / name), path) for name in names]
    elif len(names) == 1:
        files = [path]
    else:
        raise ValueError(f"{path}: {len(names)} videos need a folder with a pose file for each")
    for name, file in zip(names, files):
        if file is None:
            raise FileNotFoundError(f"{path}: there is no {name}_pose.npz and no {name}.npz")
    return [PoseSequence.load(file)[slice(num_frames)] for file in files if file is not None]


def _find(path: Path) -> Path | dict[str, Path]:
    """Return a single video as its path, or the videos in a folder by their names."""
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file or folder")
    if path.is_dir() and (_holds_videos(path) or not list_pictures(path)):
        return dict(list_videos("folder", path))
    return path


def _holds_videos(folder: Path) -> bool:
    """Return whether a folder holds what `list_videos` takes: not poses of videos, as pictures."""
    folders = (
        path
        for path in folder.iterdir()
        if not path.name.startswith(".") and not path.name.endswith("_pose") and path.is_dir()
    )
    return bool(list_files(folder, VIDEO_SUFFIXES)) or any(map(list_pictures, folders))
