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

    def paint(self, canvas: NDArray[np.uint8], frame: int) -> None:
        """Draw one frame onto uint8 RGB (H, W, 3)."""
        import cv2

        polygons = self._fixed[frame]
        if self.seen is not None:
            polygons = polygons[self.seen[frame]]
        if not len(polygons):
            return
        if self.line:
            cv2.polylines(
                canvas, list(polygons), False, self.colour, self.line, cv2.LINE_AA, _SHIFT
            )
        else:
            cv2.fillPoly(canvas, list(polygons), self.colour, cv2.LINE_AA, _SHIFT)


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
    """

    centres: Array
    half: Array
    right: Array
    yaw: Array

    def at(self, seen: Array, height: Array) -> Array:
        """Return points (F, ..., 2) at view angles (F, ...) in [-pi/2, pi/2] and heights (...).

        Heights run from 0 at the top section to 1 at the lowest.
        """
        sections = self.half.shape[1] - 1
        place = np.clip(height, 0, 1) * sections
        low = np.minimum(place.astype(np.int64), sections - 1)
        rest = place - low
        centre = self.centres[:, low] * (1 - rest)[..., None]
        centre = centre + self.centres[:, low + 1] * rest[..., None]
        half = self.half[:, low] * (1 - rest) + self.half[:, low + 1] * rest
        across = (half * np.sin(seen))[..., None]
        return np.asarray(centre + across * self.right.reshape(-1, *[1] * height.ndim, 2))

    def outline(self, left: float = -np.pi / 2, right: float = np.pi / 2) -> Array:
        """Return the polygon (F, 1, 2 L, 2) between two view angles, the silhouette by default."""
        down = np.linspace(0, 1, self.half.shape[1])
        height = np.concatenate([down, down[::-1]])
        seen = np.repeat([left, right], len(down))
        return self.at(np.broadcast_to(seen, (len(self.half), len(seen))), height)[:, None]

    def wrap(self, polygons: Array) -> tuple[Array, NDArray[np.bool_], NDArray[np.bool_]]:
        """Lay polygons (N, K, 2) of azimuth and height around the tube.

        Returns:
            corners (F, N, K, 2), which polygons are seen (F, N), and which lie in the shade.
        """
        azimuth = polygons[..., 0] + self.yaw[:, None, None]
        azimuth = (azimuth + np.pi) % (2 * np.pi) - np.pi
        seen = (np.abs(azimuth) < 1.45).any(axis=-1)
        clamped = np.clip(azimuth, -np.pi / 2, np.pi / 2)
        middle = clamped.mean(axis=-1)
        return self.at(clamped, polygons[..., 1]), seen, seen & (middle > 0.62)


def capsule(first: Array, second: Array, radius: Array, end: Array) -> Array:
    """Return the outline (F, 1, 14, 2) of a rounded bone between points (F, 2), radii (F,)."""
    delta = second - first
    angle = np.arctan2(delta[:, 1], delta[:, 0])[:, None] + np.pi / 2
    back, front = angle + _ARC, angle + np.pi + _ARC
    corners = [
        centre[:, None] + size[:, None, None] * np.stack([np.cos(turn), np.sin(turn)], axis=-1)
        for centre, size, turn in ((first, radius, back), (second, end, front))
    ]
    return np.concatenate(corners, axis=1)[:, None]


def ball(centre: Array, radius: Array) -> Array:
    """Return a disc as a polygon (F, 1, 12, 2)."""
    turn = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    circle = np.stack([np.cos(turn), np.sin(turn)], axis=-1)
    return (centre[:, None] + radius[:, None, None] * circle)[:, None]
