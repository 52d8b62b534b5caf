"""Videos to make and compare: a photo, poses, and the true video."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unianimate.data import contact_sheet
from unianimate.data.clips import VideoSet
from unianimate.metrics import Evaluation, evaluate_videos
from unianimate.pipelines import AnimatePipeline
from unianimate.pose import DrawnPoses, PoseSequence, PoseSource
from unianimate.training.puppet_test import PuppetTest

Video = NDArray[np.uint8]
Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class PosePicturesOf:
    """A `PoseSource` of pictures in memory.

    Args:
        pictures: uint8 RGB (F, H, W, 3).
        reference_picture: uint8 RGB (H, W, 3).
        fps: frames a second.
    """

    pictures: Video
    reference_picture: Picture
    fps: float = 8.0

    @property
    def num_frames(self) -> int:
        """How many poses there are."""
        return len(self.pictures)

    @property
    def digest(self) -> str:
        """Digest of all pictures."""
        digest = hashlib.sha256(self.reference_picture.tobytes())
        digest.update(self.pictures.tobytes())
        return digest.hexdigest()

    def reference(self) -> Picture:
        """Return the reference's pose."""
        return self.reference_picture

    def read(self, frames: Sequence[int]) -> list[Picture]:
        """Return the poses of these frames."""
        return [self.pictures[frame] for frame in frames]


class Case(NamedTuple):
    """A video to make, and what it should have become."""

    photo: Picture  # (H, W, 3)
    poses: PoseSource
    truth: Video  # (F, H, W, 3)
    joints: PoseSequence | None = None  # the exact poses, where they are known

    def animate(self, pipeline: AnimatePipeline, **options: Any) -> Video:
        """Return the video that a model makes of it; the options are those of `stream`."""
        height, width = self.photo.shape[:2]
        photo = Image.fromarray(self.photo)
        return pipeline(photo, self.poses, width=width, height=height, **options)

    @property
    def copy(self) -> Video:
        """The photo, repeated: what needs no model."""
        return np.repeat(self.photo[None], len(self.truth), axis=0)

    def sheet(self, made: Video, *, columns: int = 7, height: int = 160) -> Picture:
        """Return poses, made and true frames in three rows, behind the photo."""
        poses = self.poses.read(range(len(made)))
        reference = (self.poses.reference(), self.photo)
        above = contact_sheet(reference, poses, list(made), columns=columns, height=height)
        below = contact_sheet(reference, poses, list(self.truth), columns=columns, height=height)
        return np.concatenate([above, below[height:]])


def puppet_cases(test: PuppetTest, *, other_poses: bool = False) -> list[Case]:
    """Return the videos of a puppet test as cases.

    Args:
        test: which puppets.
        other_poses: drive each by the motion of the next one, and compare with its true video.
    """
    truth, joints = test.truth()
    driving = test.other_poses() if other_poses else joints
    return [
        Case(photo, DrawnPoses(poses, reference_pose), video, true_poses)
        for (photo, reference_pose), poses, video, true_poses in zip(
            test.references(), driving, truth, joints
        )
    ]


def clip_case(videos: VideoSet, index: int, frames: Sequence[int]) -> Case:
    """Return frames of a video as a case, its first frame as the reference.

    Raises:
        BrokenVideoError: the video cannot be read.
    """
    truth, poses = videos.read(index, frames)
    photo, pose = (x[0] for x in videos.read(index, [0]))
    return Case(photo, PosePicturesOf(poses, pose), truth)


def evaluate_cases(cases: Sequence[Case], made: Sequence[Video]) -> Evaluation:
    """Compare the videos that were made of cases with the true ones."""
    joints = [case.joints for case in cases if case.joints is not None]
    return evaluate_videos(
        list(made),
        [case.truth for case in cases],
        poses=joints if len(joints) == len(cases) else None,
    )
