"""Puppets that no model met in training, to see how well it animates them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unianimate.data import Puppet
from unianimate.pose import PoseSequence

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
        pairs = [puppet.render(self._frames, self.height, self.width) for puppet in self._puppets()]
        return [video for video, _ in pairs], [poses for _, poses in pairs]

    def other_poses(self) -> list[PoseSequence]:
        """Return for each puppet its poses when it does what the next one does.

        How much a model looks at the poses shows in how much worse it is with these.
        """
        return [
            puppet.poses(self._frames, self.height, self.width, motion=puppet.index + 1)
            for puppet in self._puppets()
        ]

    def references(self) -> list[tuple[Video, PoseSequence]]:
        """Return the reference of each puppet, uint8 RGB (H, W, 3), and its pose."""
        frame = [self.num_frames + _GAP]
        pairs = (puppet.render(frame, self.height, self.width) for puppet in self._puppets())
        return [(photo[0], pose) for photo, pose in pairs]

    @property
    def _frames(self) -> range:
        return range(self.num_frames)

    def _puppets(self) -> Iterator[Puppet]:
        for index in range(self.first, self.first + self.count):
            yield Puppet(index, held_out=True)
