"""`PuppetVideos`: puppets as videos to draw training clips from, rendered when they are read."""

from collections.abc import Sequence

from .clips import Pictures
from .pose_frames import draw_pose_frames
from .puppets import Puppet


class PuppetVideos:
    """A `VideoSet` of procedural puppets; nothing is stored, every read renders.

    Args:
        first: index of the first puppet.
        count: how many puppets.
        num_frames: length of every video, at 8 frames a second.
        width: of the pictures, in pixels.
        height: likewise.
        held_out: puppets that training never meets.

    Raises:
        ValueError: a number that is too small.
    """

    def __init__(
        self,
        first: int,
        count: int,
        num_frames: int,
        width: int,
        height: int,
        held_out: bool = False,
    ) -> None:
        if first < 0:
            raise ValueError(f"PuppetVideos: first must be 0 or more, got {first}")
        for name, value in (("count", count), ("num_frames", num_frames)):
            if value < 1:
                raise ValueError(f"PuppetVideos: {name} must be 1 or more, got {value}")
        if width < 1 or height < 1:
            raise ValueError(
                f"PuppetVideos: width and height must be pixels, got {width} x {height}"
            )
        self.first, self.count, self.held_out = first, count, held_out
        self.width, self.height = width, height
        self._num_frames = num_frames

    def __len__(self) -> int:
        """How many puppets there are."""
        return self.count

    def puppet(self, index: int) -> Puppet:
        """Return the puppet of a video."""
        return Puppet(self.first + range(self.count)[index], held_out=self.held_out)

    def num_frames(self, index: int) -> int:
        """Return the length of a video: that of all."""
        return self._num_frames

    def read(self, index: int, frames: Sequence[int]) -> tuple[Pictures, Pictures]:
        """Return frames and their pose pictures, each uint8 RGB (n, height, width, 3).

        Raises:
            IndexError: there is no such puppet, or no such frame.
        """
        numbers = [range(self._num_frames)[frame] for frame in frames]
        video, poses = self.puppet(index).render(numbers, self.height, self.width)
        return video, draw_pose_frames(poses, self.width, self.height)
