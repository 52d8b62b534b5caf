"""Where the driving poses of a video come from, as pictures that are made when they are needed."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .draw import draw_pose
from .pictures import PosePictures
from .sequence import PoseSequence

Picture = NDArray[np.uint8]

# where the poses do not say; the official system writes its videos at this
DEFAULT_FPS = 8.0


class PoseSource(Protocol):
    """Pose pictures of the reference and of every frame, uint8 RGB (H, W, 3), of any size."""

    @property
    def num_frames(self) -> int:
        """Frames of the video to make."""
        ...

    @property
    def fps(self) -> float:
        """Frames a second."""
        ...

    def reference(self) -> Picture:
        """Return the reference's pose."""
        ...

    def read(self, frames: Sequence[int]) -> list[Picture]:
        """Return the driving poses of these frames."""
        ...

    @property
    def digest(self) -> str:
        """Text that is the same only for the same pictures."""
        ...


@dataclass(frozen=True)
class DrawnPoses:
    """Poses drawn from key points, already aligned to the reference.

    Args:
        driving: the poses of the video.
        reference_pose: its first frame is the reference's pose.
        every: use each n-th pose.
    """

    driving: PoseSequence
    reference_pose: PoseSequence
    every: int = 1

    @property
    def num_frames(self) -> int:
        """Frames of the video to make."""
        return -(-len(self.driving) // self.every)

    @property
    def fps(self) -> float:
        """Frames a second; 8 where the poses do not say."""
        return self.driving.fps / self.every or DEFAULT_FPS

    def reference(self) -> Picture:
        """Draw the reference's pose."""
        return np.asarray(draw_pose(self.reference_pose[:1])[0])

    def read(self, frames: Sequence[int]) -> list[Picture]:
        """Draw the driving poses of these frames."""
        chosen = (frame * self.every for frame in frames)
        return [draw_pose(self.driving[frame : frame + 1])[0] for frame in chosen]

    @cached_property
    def digest(self) -> str:
        """Digest of the key points that are drawn."""
        digest = hashlib.sha256(repr((self.num_frames, self.every)).encode())
        for pose in (self.reference_pose[:1], self.driving):
            for points in (pose.bodies, pose.visible, pose.hands):
                digest.update(points.tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class FolderPoses:
    """Poses read from a folder of pictures, which are aligned already.

    Args:
        pictures: the folder.
        every: use each n-th picture.
        picture_fps: of the pictures.
    """

    pictures: PosePictures
    every: int = 1
    picture_fps: float = DEFAULT_FPS

    @property
    def num_frames(self) -> int:
        """Frames of the video to make."""
        return -(-len(self.pictures) // self.every)

    @property
    def fps(self) -> float:
        """Frames a second."""
        return self.picture_fps / self.every

    def reference(self) -> Picture:
        """Read the reference's pose."""
        return self.pictures.read_reference()

    def read(self, frames: Sequence[int]) -> list[Picture]:
        """Read the driving poses of these frames."""
        return [self.pictures.read_one(frame * self.every) for frame in frames]

    @cached_property
    def digest(self) -> str:
        """Digest of all pictures; a damaged one is found here."""
        digest = hashlib.sha256(self.reference().tobytes())
        for frame in range(self.num_frames):
            digest.update(self.read([frame])[0].tobytes())
        return digest.hexdigest()
