"""Flat shapes over time: capsules, tubes and what is drawn on them, filled anti-aliased."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .identity import Colour

Array = NDArray[np.float64]

_SHIFT = 4
_ARC = np.linspace(0, np.pi, 7)


@dataclass(frozen=True)
class Shape:
    """Polygons of one colour, moving.

    Args:
        points: (F, N, K, 2) in pixels, N polygons of K corners.
        colour: RGB.
        seen: (F, N) which of them are drawn, None for all.
        line: width in pixels of an open line through the points; 0 fills the polygon.
    """

    points: Array
    colour: Colour
    seen: NDArray[np.bool_] | None = None
    line: int = 0
    _fixed: NDArray[np.int32] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Round to sixteenths of a pixel; OpenCV counts from the middle of the first pixel."""
        fixed = np.rint((self.points - 0.5) * (1 << _SHIFT)).astype(np.int32, order="C")
        object.__setattr__(self, "_fixed", fixed)

    def dim(self, canvas: NDArray[np.uint8], frame: int, share: float) -> None:
        """Let this much of the shape's colour through, over what is there."""
        import cv2

        corners = self._fixed[frame].reshape(-1, 2) >> _SHIFT
        size = (canvas.shape[1], canvas.shape[0])
        left, top = (int(v) for v in np.clip(corners.min(axis=0) - 2, 0, size))
        right, bottom = (int(v) for v in np.clip(corners.max(axis=0) + 3, 0, size))
        if left >= right or top >= bottom:
            return
        before = canvas[top:bottom, left:right].copy()
        self.paint(canvas, frame)
        region = canvas[top:bottom, left:right]
        region[:] = cv2.addWeighted(before, 1 - share, region, share, 0)

    def paint(self, canvas: NDArray[np.uint8], frame: int) -> None:
        """Draw one frame onto uint8 RGB (H, W, 3)."""
        import cv2

        corners = self._fixed[frame]
        polygons = list(corners if self.seen is None else corners[self.seen[frame]])
        if not polygons:
            return
        if self.line:
            cv2.polylines(canvas, polygons, False, self.colour, self.line, cv2.LINE_AA, _SHIFT)
        else:
            cv2.fillPoly(canvas, polygons, self.colour, cv2.LINE_AA, _SHIFT)


@dataclass(frozen=True)
class Part:
    """Shapes that lie on each other in order, and how near they are: (F,), nearer is larger."""

    depth: Array
    shapes: list[Shape]


@dataclass(frozen=True)
class Tube:
    """A round, upright thing seen from the side: clothes and limbs are drawn on its surface.

    Args:
        centres: (F, L, 2) of its cross-sections, from the top down, in pixels.
        half: (F, L) their half widths.
        right: (F, 2) unit vector across the tube, in the picture.
        yaw: (F,) how it is turned.
        place: (L,) where the cross-sections lie, rising from 0 to 1.
    """

    centres: Array
    half: Array
    right: Array
    yaw: Array
    place: Array

    def at(self, seen: Array, height: Array) -> Array:
        """Return points (F, ..., 2) at view angles (F, ...) in [-pi/2, pi/2] and heights (...).

        Heights run from 0 at the top section to 1 at the lowest.
        """
        height = np.clip(height, 0, 1)
        low = np.searchsorted(self.place[1:-1], height, side="right")
        rest = (height - self.place[low]) / (self.place[low + 1] - self.place[low])
        centre = self.centres[:, low] * (1 - rest)[..., None]
        centre = centre + self.centres[:, low + 1] * rest[..., None]
        half = self.half[:, low] * (1 - rest) + self.half[:, low + 1] * rest
        across = (half * np.sin(seen))[..., None]
        return np.asarray(centre + across * self.right.reshape(-1, *[1] * height.ndim, 2))

    def outline(self, left: float = -np.pi / 2, right: float = np.pi / 2) -> Array:
        """Return the polygon (F, 1, 2 L, 2) between two view angles, the silhouette by default."""
        height = np.concatenate([self.place, self.place[::-1]])
        seen = np.repeat([left, right], len(self.place))
        return self.at(np.broadcast_to(seen, (len(self.half), len(seen))), height)[:, None]

    def wrap(self, polygons: Array) -> tuple[Array, NDArray[np.bool_], NDArray[np.bool_]]:
        """Lay polygons (N, K, 2) of azimuth and height around the tube.

        Returns:
            corners (F, N, K, 2), which polygons are seen (F, N), and which lie in the shade.
        """
        azimuth = polygons[..., 0] + self.yaw[:, None, None]
        azimuth = (azimuth + np.pi) % (2 * np.pi) - np.pi
        seen = np.asarray((np.abs(azimuth) < 1.45).any(axis=-1))
        clamped = np.clip(azimuth, -np.pi / 2, np.pi / 2)
        middle = clamped.mean(axis=-1)
        return self.at(clamped, polygons[..., 1]), seen, seen & (middle > 0.62)


def capsule(first: Array, second: Array, radius: Array, end: Array, tip: float = 1.0) -> Array:
    """Return the outline (F, 1, 14, 2) of a bone between points (F, 2), of radii (F,).

    The first end is round, the second bulges by ``tip`` of its radius.
    """
    delta = second - first
    angle = np.arctan2(delta[:, 1], delta[:, 0])
    along = np.stack([np.cos(angle), np.sin(angle)], axis=-1)[:, None]
    across = np.stack([-along[..., 1], along[..., 0]], axis=-1)
    arc_along, arc_across = np.sin(_ARC)[:, None], np.cos(_ARC)[:, None]
    back = across * arc_across - along * arc_along
    front = -across * arc_across + tip * along * arc_along
    corners = (
        centre[:, None] + size[:, None, None] * cap
        for centre, size, cap in ((first, radius, back), (second, end, front))
    )
    return np.concatenate(list(corners), axis=1)[:, None]


def ball(centre: Array, radius: Array) -> Array:
    """Return a disc as a polygon (F, 1, 12, 2)."""
    turn = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    circle = np.stack([np.cos(turn), np.sin(turn)], axis=-1)
    return np.asarray(centre[:, None] + radius[:, None, None] * circle)[:, None]
