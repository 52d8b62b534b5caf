"""`PosedVideos`: videos on disk with their poses, to draw training clips from."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from unianimate.pose.pictures import REFERENCE_NAME, open_pose_picture
from unianimate.pose.sequence import PoseSequence

from .clips import BrokenVideoError, Pictures
from .frames import FrameReader, PictureFrames, open_frames
from .pose_frames import draw_pose_frames
from .region import Fit, Region, training_region


class PosedVideo(NamedTuple):
    """A video, where its poses are, and which of its frames are used.

    Args:
        video: a video file, or a folder with one picture a frame.
        poses: a pose file (.npz), or a folder with one pose picture a frame.
        start: the first frame that is used.
        stop: the frame after the last one; None is the end of the video.
    """

    video: Path
    poses: Path
    start: int = 0
    stop: int | None = None


class PosedVideos:
    """A `VideoSet` of videos on disk, decoded when they are read.

    Pictures and poses are cut alike (`training_region`); poses are drawn as everywhere, pose
    pictures are used as they are. A copy in another process opens the files anew.

    Args:
        videos: what to read.
        width: of the pictures, in pixels.
        height: likewise.
        fit: "crop" or "stretch": see `training_region`.
        enlarge: take videos that are smaller.

    Raises:
        ValueError: there are no videos, a size below one pixel, or another word for ``fit``.
    """

    def __init__(
        self,
        videos: Sequence[PosedVideo],
        width: int,
        height: int,
        *,
        fit: Fit = "crop",
        enlarge: bool = False,
    ) -> None:
        if not videos:
            raise ValueError("PosedVideos: there are no videos; give at least one")
        if width < 1 or height < 1:
            raise ValueError(
                f"PosedVideos: width and height must be pixels, got {width} x {height}"
            )
        # another word for fit is no matter of a single video
        training_region(width, height, width, height, fit=fit)
        self.videos = tuple(videos)
        self.width, self.height = width, height
        self._fit, self._enlarge = fit, enlarge
        self._last: tuple[tuple[int, int], _Opened] | None = None

    def __len__(self) -> int:
        """How many videos there are."""
        return len(self.videos)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the open file behind: it belongs to this process."""
        return {**self.__dict__, "_last": None}

    def num_frames(self, index: int) -> int:
        """Return how many frames of a video are used.

        Raises:
            BrokenVideoError: the video or its poses cannot be read, or do not belong together.
        """
        return len(self._open(index).numbers)

    def read(self, index: int, frames: Sequence[int]) -> tuple[Pictures, Pictures]:
        """Return frames and their pose pictures, each uint8 RGB (n, height, width, 3).

        Raises:
            BrokenVideoError: they cannot be read, or are too small.
            IndexError: there is no such video, or no such frame.
        """
        opened = self._open(index)
        numbers = [opened.numbers[frame] for frame in frames]
        sizes: set[tuple[int, int]] = set()

        def fit(picture: Image.Image) -> Image.Image:
            sizes.add(picture.size)
            return self._region(*picture.size).cut(picture, self.width, self.height)

        try:
            pictures = opened.frames.read(numbers, fit)
            if len(sizes) > 1:
                raise ValueError("its frames change size")
            region = self._region(*sizes.pop())
            poses = opened.draw(numbers, region, self.width, self.height)
        except (ValueError, OSError) as error:
            raise _broken(self.videos[index], error) from error
        return np.stack([np.asarray(picture) for picture in pictures]), poses

    def _region(self, width: int, height: int) -> Region:
        return training_region(
            width, height, self.width, self.height, fit=self._fit, enlarge=self._enlarge
        )

    def _open(self, index: int) -> "_Opened":
        """Return a video; the last one stays open, because clips ask for its length first."""
        # a forked process must not share the position in the file with its parent
        key = (os.getpid(), range(len(self.videos))[index])
        if self._last is None or self._last[0] != key:
            if self._last is not None:
                self._last[1].frames.close()
                self._last = None
            try:
                self._last = (key, _Opened(self.videos[index]))
            except (ValueError, OSError) as error:
                raise _broken(self.videos[index], error) from error
        return self._last[1]


class _Opened:
    """An open video and its poses."""

    def __init__(self, video: PosedVideo) -> None:
        poses = video.poses
        self._poses: PoseSequence | PictureFrames = (
            PictureFrames(poses, REFERENCE_NAME, open_pose_picture)
            if poses.is_dir()
            else PoseSequence.load(poses)
        )
        self.frames: FrameReader = open_frames(video.video)
        try:
            self.numbers = self._used(video, len(self.frames))
        except ValueError:
            self.frames.close()
            raise

    def _used(self, video: PosedVideo, length: int) -> range:
        """Return the numbers of the frames that are used."""
        if length != len(self._poses):
            raise ValueError(
                f"{video.video} has {length} frames and {video.poses} has {len(self._poses)} "
                f"poses; extract the poses of every frame again"
            )
        numbers = range(length)[video.start : video.stop]
        if not numbers:
            raise ValueError(f"{video.video} has {length} frames, and none is used")
        return numbers

    def draw(self, numbers: list[int], region: Region, width: int, height: int) -> Pictures:
        """Return the pose pictures of these frames."""
        if isinstance(self._poses, PictureFrames):
            pictures = self._poses.read(numbers, lambda pose: region.cut(pose, width, height))
            return np.stack([np.asarray(picture) for picture in pictures])
        placed = (region.place(self._poses[number : number + 1]) for number in numbers)
        return np.concatenate([draw_pose_frames(pose, width, height) for pose in placed])


def _broken(video: PosedVideo, error: Exception) -> BrokenVideoError:
    message = str(error)
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        message = f"{error.filename}: {error.strerror.lower()}"
    return BrokenVideoError(message if str(video.video) in message else f"{video.video}: {message}")
