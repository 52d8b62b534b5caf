"""`Puppet`: one person, one place, any number of motions; pictures and exact poses."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from unianimate.pose.sequence import MISSING, PoseSequence

from .background import Background, see
from .camera import Camera, View
from .figure import cast_shadow, figure_parts
from .identity import Identity
from .landmarks import body_points, face_points
from .motion import Motion, standing
from .shapes import Shape
from .skeleton import Skeleton, build_skeleton

Video = NDArray[np.uint8]

# what is drawn from a seed; the seed is (held out, this, index)
_IDENTITY, _BACKGROUND, _CAMERA, _MOTION = range(4)

_SHADOW = (20, 18, 24)


class Puppet:
    """An articulated person before a background: the same for the same index everywhere.

    Identity, background, camera and motion are each drawn from the index. Held-out puppets are
    drawn from seeds of their own, so that training meets neither their looks nor their motions.
    Every frame is a function of its number alone: frames can be rendered in any order.

    Args:
        index: 0 or more, without limit.
        held_out: draw from the seeds that training never uses.

    Raises:
        ValueError: a negative index.

    Example:
        >>> video, poses = Puppet(7).render(16, 128, 96)
        >>> video.shape, poses.bodies.shape
        ((16, 128, 96, 3), (16, 20, 2))
    """

    def __init__(self, index: int, *, held_out: bool = False) -> None:
        if index < 0:
            raise ValueError(f"Puppet: index must be 0 or more, got {index}")
        self.index, self.held_out = index, held_out
        self.identity = Identity.sample(self._rng(_IDENTITY))
        self.background = Background.sample(self._rng(_BACKGROUND))
        self.camera = Camera.sample(self._rng(_CAMERA))
        self._painted = lru_cache(maxsize=4)(self.background.paint)

    def __repr__(self) -> str:
        return f"Puppet({self.index}, held_out={self.held_out})"

    def _rng(self, purpose: int, index: int | None = None) -> np.random.Generator:
        index = self.index if index is None else index
        return np.random.default_rng([int(self.held_out), purpose, index])

    def motion(self, index: int | None = None) -> Motion:
        """Return a motion: the puppet's own, or the one of another index."""
        if index is not None and index < 0:
            raise ValueError(f"Puppet.motion: index must be 0 or more, got {index}")
        return Motion.sample(self._rng(_MOTION, index))

    def render(
        self,
        frames: int | Sequence[int],
        height: int,
        width: int,
        *,
        fps: float = 8.0,
        motion: int | None = None,
    ) -> tuple[Video, PoseSequence]:
        """Render frames and their poses.

        Args:
            frames: how many, from the first on; or the numbers of those wanted, in any order.
            height: of the pictures, in pixels.
            width: likewise.
            fps: frames a second: frame n shows the moment n / fps.
            motion: index of the motion; the puppet's own by default.

        Returns:
            uint8 RGB (F, height, width, 3), and F poses in it. Frames that are evenly spaced
            make poses of the matching fps, others of 0.

        Raises:
            ValueError: no frames, a size without pixels, fps not positive, or a negative index.
        """
        numbers = _numbers(frames)
        view, skeleton = self._scene(numbers, height, width, fps, motion)
        return self._paint(skeleton, view, height, width), _pose(
            skeleton, view, height, width, _rate(numbers, fps)
        )

    def poses(
        self,
        frames: int | Sequence[int],
        height: int,
        width: int,
        *,
        fps: float = 8.0,
        motion: int | None = None,
    ) -> PoseSequence:
        """Return the poses of ``render`` without painting a picture; arguments as there."""
        numbers = _numbers(frames)
        view, skeleton = self._scene(numbers, height, width, fps, motion)
        return _pose(skeleton, view, height, width, _rate(numbers, fps))

    def reference(self, height: int, width: int) -> tuple[Video, PoseSequence]:
        """Return a photo of the puppet standing, seen from the front, and its pose.

        Returns:
            uint8 RGB (height, width, 3), and a pose of one frame.
        """
        _expect_size(height, width)
        still = replace(self.camera, drift=np.zeros(4))
        view = still.at(np.zeros(1), height, width)
        skeleton = build_skeleton(self.identity.body, standing(self._rng(_CAMERA)))
        photo = self._paint(skeleton, view, height, width)[0]
        return photo, _pose(skeleton, view, height, width, 0.0)

    def _scene(
        self, numbers: NDArray[np.int64], height: int, width: int, fps: float, motion: int | None
    ) -> tuple[View, Skeleton]:
        _expect_size(height, width)
        if not fps > 0:
            raise ValueError(f"Puppet: fps must be positive, got {fps}")
        seconds = numbers / fps
        skeleton = build_skeleton(self.identity.body, self.motion(motion).at(seconds))
        return self.camera.at(seconds, height, width), skeleton

    def _paint(self, skeleton: Skeleton, view: View, height: int, width: int) -> Video:
        scenery = self._painted(height, width)
        parts = figure_parts(self.identity, skeleton, view)
        shadow = Shape(cast_shadow(skeleton, view), _SHADOW)
        order = np.argsort(np.stack([part.depth for part in parts], axis=1), axis=1, kind="stable")
        video = np.empty((len(order), height, width, 3), dtype=np.uint8)
        for frame, nearer in enumerate(order):
            see(scenery, view, frame, video[frame])
            shadow.dim(video[frame], frame, 0.35)
            for part in nearer:
                for shape in parts[part].shapes:
                    shape.paint(video[frame], frame)
        return video


def _numbers(frames: int | Sequence[int]) -> NDArray[np.int64]:
    numbers = np.arange(frames) if isinstance(frames, int) else np.asarray(frames, dtype=np.int64)
    if numbers.ndim != 1 or not len(numbers) or numbers.min() < 0:
        raise ValueError(
            f"Puppet: frames must be a count from 1 or numbers from 0, at least one, got {frames}"
        )
    return numbers


def _rate(numbers: NDArray[np.int64], fps: float) -> float:
    if len(numbers) == 1:
        return fps
    steps = np.unique(np.diff(numbers))
    return fps / abs(int(steps[0])) if len(steps) == 1 and steps[0] else 0.0


def _expect_size(height: int, width: int) -> None:
    if height < 1 or width < 1:
        raise ValueError(f"Puppet: height and width must be pixels, got {height} x {width}")


def _pose(skeleton: Skeleton, view: View, height: int, width: int, fps: float) -> PoseSequence:
    """Return the points of skeletons in space as the camera sees them."""
    size = np.array([width, height])
    body, visible = body_points(skeleton)
    face, seen = face_points(skeleton.head)
    faces = view.project(face) / size
    faces[~seen] = MISSING
    return PoseSequence(
        bodies=view.project(body) / size,
        visible=visible,
        hands=view.project(skeleton.hands) / size,
        faces=faces,
        width=width,
        height=height,
        fps=fps,
        scores=visible.astype(np.float64),
    )
