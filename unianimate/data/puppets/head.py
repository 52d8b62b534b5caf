"""The head: neck, skin, hair, face."""

import numpy as np
from numpy.typing import NDArray

from .camera import View
from .cloth import SHADE
from .identity import Colour, Hair, Identity, shade
from .landmarks import FACE
from .shapes import Part, Shape, Tube, ball, capsule
from .skeleton import Head, Skeleton

Array = NDArray[np.float64]

# height of the hairline on the head at these azimuths from the face
_AZIMUTH = np.array([0.0, 0.4, 0.75, 1.05, 1.35, 1.75, 2.3, np.pi])
_HAIRLINE: dict[Hair, tuple[float, ...]] = {
    "short": (-0.50, -0.50, -0.42, -0.20, -0.02, 0.25, 0.50, 0.55),
    "crop": (-0.58, -0.56, -0.50, -0.34, -0.12, 0.10, 0.35, 0.40),
    "fringe": (-0.28, -0.27, -0.24, 0.05, 0.45, 0.75, 0.85, 0.85),
    "bob": (-0.52, -0.42, -0.20, 0.20, 0.75, 0.95, 0.95, 0.95),
    "long": (-0.62, -0.50, -0.22, 0.25, 0.75, 0.95, 0.95, 0.95),
    "tail": (-0.56, -0.54, -0.46, -0.28, -0.08, 0.12, 0.40, 0.50),
    "bun": (-0.56, -0.54, -0.46, -0.28, -0.08, 0.12, 0.40, 0.50),
    "curls": (-0.48, -0.46, -0.36, -0.10, 0.05, 0.30, 0.50, 0.55),
    "bald": (-0.95, -0.95, -0.92, -0.70, -0.05, 0.20, 0.45, 0.50),
}
_VOLUME: dict[Hair, float] = {
    "short": 0.09, "crop": 0.03, "fringe": 0.12, "bob": 0.15, "long": 0.11,
    "tail": 0.06, "bun": 0.06, "curls": 0.36, "bald": 0.02,
}  # fmt: skip
_CAP_LINE = (-0.42, -0.42, -0.40, -0.38, -0.34, -0.25, -0.15, -0.1)
_EARS_SHOWN = ("short", "crop", "tail", "bun", "bald")
_VIEW = np.linspace(-np.pi / 2, np.pi / 2, 13)


def head_parts(who: Identity, skeleton: Skeleton, view: View) -> list[Part]:
    """Return neck, head and the hair that hangs behind; arguments as of ``figure_parts``."""
    head, painter = skeleton.head, _HeadPainter(who, skeleton.head, view)
    still = np.zeros(len(head.yaw))
    away = head.facing(0.0) > 1.75
    parts = [
        Part(still + 0.5, painter.neck(skeleton.neck)),
        Part(still + 1, painter.skull()),
    ]
    hanging = painter.hanging_hair()
    if hanging:
        parts.append(Part(np.where(away, 1.5, -0.5), hanging))
    return parts


class _HeadPainter:
    def __init__(self, who: Identity, head: Head, view: View) -> None:
        self.who, self.head, self.project = who, head, view.project
        self.size = view.scale * who.body.head
        self.pixels = view.unit * who.body.head

    def _on(self, azimuth: Array, height: Array, out: Array | float = 0.0) -> Array:
        """Return pixels (F, N, 2) of points on the head; hidden ones move to the rim."""
        out = np.broadcast_to(out, np.shape(height))
        return self.project(self.head.at(azimuth, height, out, clamp=True))

    def _seen(self, azimuth: float, limit: float = 1.4) -> NDArray[np.bool_]:
        return (self.head.facing(azimuth) < limit)[:, None]

    def _line(self, width: float) -> int:
        """Return a line's width in whole pixels from half heights of the head."""
        return max(1, round(width * self.pixels))

    def neck(self, base: Array) -> list[Shape]:
        """Return the neck, in the shade of the chin."""
        top = self.head.centre + 0.35 * self.head.size * self.head.down
        ends = self.project(np.stack([top, base], axis=1))
        radius = 0.44 * self.size
        bone = capsule(ends[:, 0], ends[:, 1], radius, 0.92 * radius)
        return [Shape(bone, shade(self.who.skin, SHADE + 0.06))]

    def skull(self) -> list[Shape]:
        """Return skin, face, hair, ears and cap."""
        who = self.who
        heights = np.linspace(-0.97, 1, 14)
        left, right = (self._rim(side, heights) for side in (-1, 1))
        skin = np.concatenate([left, right[:, ::-1]], axis=1)[:, None]
        shadow = self._on(0.55 - self.head.yaw[:, None] + 0 * heights, heights)
        shadow = np.concatenate([shadow, right[:, ::-1]], axis=1)[:, None]
        shapes = [Shape(skin, who.skin), Shape(shadow, shade(who.skin, 0.86))]
        shapes += self._face()
        shapes += self._hair(_HAIRLINE[who.hair], _VOLUME[who.hair], who.hair_colour)
        if who.hair in _EARS_SHOWN:
            shapes += self._ears()
        if who.cap is not None:
            band = tuple(height + 0.1 for height in _CAP_LINE)
            shapes += self._hair(band, _VOLUME[who.hair] * 0.5 + 0.09, shade(who.cap, 0.7))[:1]
            shapes += self._hair(_CAP_LINE, _VOLUME[who.hair] * 0.5 + 0.09, who.cap)
        return shapes

    def _rim(self, side: int, heights: Array, out: Array | float = 0.0) -> Array:
        azimuth = side * np.pi / 2 - self.head.yaw[:, None] + 0 * heights
        return self._on(azimuth, heights, out)

    def _ears(self) -> list[Shape]:
        shapes = []
        for side in (-1.6, 1.6):
            ends = self._on(np.array([side, side]), np.array([0.0, 0.2]), 0.05)
            radius = 0.12 * self.size
            ear = capsule(ends[:, 0], ends[:, 1], radius, radius * 0.7)
            shapes.append(Shape(ear, shade(self.who.skin, 0.84), self._seen(side, 1.85)))
        return shapes

    def _hair(self, line: tuple[float, ...], volume: float, colour: Colour) -> list[Shape]:
        """Return the head above a hairline, with a gloss."""
        azimuth = _VIEW - self.head.yaw[:, None]
        wrapped = np.abs((azimuth + np.pi) % (2 * np.pi) - np.pi)
        heights = np.interp(wrapped, _AZIMUTH, line)
        front = self._on(azimuth, heights, 0.01)
        # over the top, from the right end of the hairline to the left one
        rise = np.concatenate([np.linspace(0.04, 1, 8), np.linspace(1, 0.04, 8)])
        ends = np.repeat(heights[:, [-1, 0]], 8, axis=1)
        above = ends + (-0.995 - ends) * rise
        side = np.repeat([1.0, -1.0], 8)
        grown = volume * np.sqrt(rise)
        over = self._on(side * np.pi / 2 - self.head.yaw[:, None], above, grown)
        over = over - (self.size * volume)[:, None, None] * rise[:, None] * self._down()
        cover = np.concatenate([front, over], axis=1)[:, None]
        ends = np.array([-0.75, -0.1]) - self.head.yaw[:, None]
        shine = self._on(ends, np.array([-0.7, -0.84]))
        gloss = capsule(shine[:, 0], shine[:, 1], 0.07 * self.size, 0.05 * self.size)
        return [Shape(cover, colour), Shape(gloss, shade(colour, 1.28))]

    def _down(self) -> Array:
        tips = np.stack([self.head.centre, self.head.centre + self.head.down], axis=1)
        ends = self.project(tips)
        axis = ends[:, 1] - ends[:, 0]
        return np.asarray(axis / np.sqrt((axis**2).sum(axis=-1, keepdims=True)))[:, None]

    def hanging_hair(self) -> list[Shape]:
        """Return long hair, a tail or a bun: what grows at the back of the head."""
        colour, style = self.who.hair_colour, self.who.hair
        dark = shade(colour, 0.85)
        behind = np.array([np.pi])
        if style == "bun":
            bun = self.project(self.head.at(behind, np.array([-0.85]), np.array([0.25])))[:, 0]
            return [Shape(ball(bun, 0.4 * self.size), dark)]
        if style == "tail":
            hold, tip = (
                self.project(self.head.at(behind, np.array([h]), np.array([o])))[:, 0]
                for h, o in ((-0.45, 0.15), (1.5, 0.45))
            )
            return [Shape(capsule(hold, tip, 0.24 * self.size, 0.12 * self.size), dark)]
        length = {"long": 2.3, "bob": 1.15, "fringe": 0.95}.get(style)
        if length is None:
            return []
        heights = np.array([-0.3, 0.3, 0.3 + 0.5 * (length - 0.3), length])
        centres = self.project(self.head.at(behind + 0 * heights, heights, 0 * heights - 0.55))
        half = self.size[:, None] * np.array([0.9, 0.98, 0.95, 0.8])
        down = self._down()[:, 0]
        right = np.stack([down[:, 1], -down[:, 0]], axis=-1)
        return [
            Shape(Tube(centres, half, right, self.head.yaw, np.linspace(0, 1, 4)).outline(), dark)
        ]

    def _face(self) -> list[Shape]:
        who, skin = self.who, self.who.skin
        points = self._on(*FACE.T)
        front = self._seen(0.0, 1.75)
        shapes: list[Shape] = []
        if who.beard:
            azimuth = np.linspace(1.15, -1.15, 9)
            rim = self._on(azimuth, 0.5 + 0.02 * np.cos(3 * azimuth) - 0.25 * azimuth**2 / 1.3)
            beard = np.concatenate([points[:, 2:15], rim], axis=1)[:, None]
            shapes.append(Shape(beard, shade(who.hair_colour, 0.95), front))
        mouth = points[:, None, 48:60]
        shapes.append(Shape(mouth, who.lips, front))
        shapes.append(Shape(points[:, None, 60:65], shade(who.lips, 0.55), front, self._line(0.02)))
        nose = self._on(
            np.array([0.0, 0.0, 0.0, 0.2, -0.2]),
            np.array([-0.02, 0.3, 0.41, 0.38, 0.38]),
            np.array([0.02, 0.18, 0.1, 0.03, 0.03]),
        )
        shapes.append(Shape(nose[:, None, [0, 1, 2, 3]], shade(skin, 0.8), front))
        shapes.append(Shape(nose[:, None, [0, 1, 2, 4]], shade(skin, 1.04), front))
        return shapes + self._eyes(points)

    def _eyes(self, points: Array) -> list[Shape]:
        who, shapes = self.who, list[Shape]()
        for eye, brow, azimuth in ((36, 17, -0.41), (42, 22, 0.41)):
            seen = self._seen(azimuth)
            lids = points[:, None, eye : eye + 6]
            shapes.append(Shape(lids, (246, 244, 240), seen))
            centre = self._on(np.array([azimuth]), np.array([-0.01]))[:, 0]
            shapes.append(Shape(ball(centre, 0.072 * self.size), who.iris, seen))
            if self.pixels > 24:
                shapes.append(Shape(ball(centre, 0.036 * self.size), (12, 10, 10), seen))
            upper = points[:, None, eye : eye + 4]
            shapes.append(Shape(upper, shade(who.skin, 0.35), seen, self._line(0.03)))
            arch = points[:, None, brow : brow + 5]
            shapes.append(Shape(arch, shade(who.hair_colour, 0.8), seen, self._line(0.06)))
        return shapes
