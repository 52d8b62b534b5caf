"""How well a model animates puppets that it never met, beside what needs no model."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unianimate.data import Puppet
from unianimate.metrics import Evaluation, evaluate_videos
from unianimate.pipelines import AnimatePipeline
from unianimate.pose import DrawnPoses, PoseSequence

Video = NDArray[np.uint8]

# frames between the last one that is generated and the one that is the reference
_GAP = 4


@dataclass(frozen=True)
class PuppetTest:
    """Held-out puppets: identities and motions that training never draws.

    The reference is a frame of the same video, a little after the frames that are generated.

    Args:
        count: puppets, from the first on.
        num_frames: of each video.
        width: of the pictures, in pixels.
        height: likewise.
        first: index of the first puppet.
    """

    count: int = 64
    num_frames: int = 16
    width: int = 96
    height: int = 128
    first: int = 0

    def truth(self) -> tuple[list[Video], list[PoseSequence]]:
        """Return the true videos and their poses."""
        numbers = range(self.num_frames)
        pairs = [puppet.render(numbers, self.height, self.width) for puppet in self._puppets()]
        return [video for video, _ in pairs], [poses for _, poses in pairs]

    def copies(self) -> list[Video]:
        """Return videos that repeat the reference: what needs no model."""
        return [
            np.repeat(self._reference(puppet)[0], self.num_frames, axis=0)
            for puppet in self._puppets()
        ]

    def references(self) -> list[tuple[Video, PoseSequence]]:
        """Return the reference of each puppet, uint8 RGB (H, W, 3), and its pose."""
        references = (self._reference(puppet) for puppet in self._puppets())
        return [(photo[0], pose) for photo, pose in references]

    def animate(
        self, pipeline: AnimatePipeline, *, swap_poses: bool = False, **options: Any
    ) -> Iterator[Video]:
        """Yield the video that a model makes of each puppet.

        Args:
            pipeline: the model.
            swap_poses: drive each puppet by the motion of the next one: how much a model looks at
                the poses shows in how much worse this is.
            options: of `AnimatePipeline.stream`.
        """
        for puppet in self._puppets():
            photo, reference_pose = self._reference(puppet)
            motion = puppet.index + 1 if swap_poses else None
            poses = puppet.poses(range(self.num_frames), self.height, self.width, motion=motion)
            yield pipeline(
                Image.fromarray(photo[0]),
                DrawnPoses(poses, reference_pose),
                width=self.width,
                height=self.height,
                **options,
            )

    def evaluate(self, videos: Sequence[Video]) -> Evaluation:
        """Compare videos of all puppets with the true ones."""
        truth, poses = self.truth()
        return evaluate_videos(list(videos), truth, poses=poses)

    def _puppets(self) -> Iterator[Puppet]:
        for index in range(self.first, self.first + self.count):
            yield Puppet(index, held_out=True)

    def _reference(self, puppet: Puppet) -> tuple[Video, PoseSequence]:
        return puppet.render([self.num_frames + _GAP], self.height, self.width)
