"""From a skeleton to painted parts: limbs, clothes, hands, and the order they hide each other."""

from functools import partial

import numpy as np
from numpy.typing import NDArray

from .camera import View
from .cloth import SHADE, dress_tube, ink
from .head import head_parts
from .identity import Cloth, Colour, Identity, shade
from .motion import LEFT, RIGHT
from .shapes import Part, Shape, Tube, capsule
from .skeleton import Skeleton

Array = NDArray[np.float64]

# an arm is behind the trunk when it is further back than this, in heights of the body
_BEHIND = -0.035
_PATTERN_ROW = 0.05  # a pattern repeats about so often, in heights of the body
_PALM = (1, 2, 5, 9, 13, 17)


def figure_parts(who: Identity, skeleton: Skeleton, view: View) -> list[Part]:
    """Return the parts of a person.

    Args:
        who: the person.
        skeleton: F frames in space.
        view: their camera.
    """
    painter = _Painter(who, skeleton, view)
    return [
        *(part for side in (LEFT, RIGHT) for part in (*painter.arm(side), painter.leg(side))),
        *painter.trunk(),
        *head_parts(who, skeleton, view),
    ]


class _Painter:
    """One person's skeleton in pixels, and the brushes."""

    def __init__(self, who: Identity, skeleton: Skeleton, view: View) -> None:
        self.who, self.skeleton = who, skeleton
        self.project, self.scale, self.unit = view.project, view.scale, view.unit
        self.girth = who.body.girth

    def arm(self, side: int) -> list[Part]:
        """Return upper arm, and forearm with hand; each before or behind the trunk by its depth."""
        who, s = self.who, self.skeleton
        shoulder, elbow, wrist = s.shoulders[:, side], s.elbows[:, side], s.wrists[:, side]
        r = [0.0285 * self.girth, 0.0225 * self.girth, 0.0165 * self.girth]
        shoulder_seen = shoulder + 0.01 * s.chest[:, 1]
        upper = self._bone(shoulder_seen, elbow, r[0], r[1], who.skin)
        lower = self._bone(elbow, wrist, r[1], r[2], who.skin)
        ease = 0.006
        if who.sleeve > 0:
            share = min(1.0, who.sleeve)
            end = shoulder_seen + share * (elbow - shoulder_seen)
            at_end = r[0] + share * (r[1] - r[0])
            upper += self._sleeve(
                shoulder_seen, end, r[0] + ease, at_end + ease, who.top, share * who.body.upper_arm
            )
        hand = self._hand(side)
        if who.sleeve > 1:
            end = elbow + 0.96 * (wrist - elbow)
            lower += self._sleeve(elbow, end, r[1] + ease, r[2] + ease, who.top, who.body.forearm)
            shapes = hand + lower
        else:
            shapes = lower + hand
        back = s.neck[:, 2]
        return [
            Part(self._layer((shoulder[:, 2] + elbow[:, 2]) / 2 - back), upper),
            Part(self._layer((elbow[:, 2] + 2 * wrist[:, 2]) / 3 - back), shapes),
        ]

    def _layer(self, z: Array) -> Array:
        return np.where(z > _BEHIND, 10 + z, -10 + z)

    def _hand(self, side: int) -> list[Shape]:
        points = self.project(self.skeleton.hands[:, side])
        fingers = points[:, 1:].reshape(-1, 5, 4, 2)
        width = max(1, round(0.0165 * self.girth * self.unit))
        wrist = np.broadcast_to(points[:, :1], (len(points), 1, 2))
        palm = np.concatenate([wrist, points[:, _PALM]], axis=1)[:, None]
        dark = shade(self.who.skin, 0.86)
        # the last three bones of each finger; the first lies in the palm
        return [
            Shape(palm, dark, line=width),
            Shape(fingers, dark, line=width + (width > 3)),
            Shape(palm, self.who.skin),
            Shape(fingers, self.who.skin, line=max(1, width - (width > 2))),
        ]

    def leg(self, side: int) -> Part:
        """Return foot, shin and thigh."""
        who, s = self.who, self.skeleton
        hip, knee, ankle = s.hips[:, side], s.knees[:, side], s.ankles[:, side]
        r = [0.052 * self.girth, 0.035 * self.girth, 0.0225 * self.girth]
        shapes = self._bone(s.heels[:, side], s.toes[:, side], 0.021, 0.0175, who.shoe)
        shapes = self._bone(ankle, s.heels[:, side], 0.02, 0.02, who.shoe) + shapes
        shin = self._bone(knee, ankle, r[1], r[2], who.skin)
        thigh = self._bone(hip, knee, r[0], r[1], who.skin)
        ease = 0.006
        if who.leg > 0:
            share = min(1.0, who.leg)
            end, at_end = hip + share * (knee - hip), r[0] + share * (r[1] - r[0])
            thigh += self._sleeve(
                hip, end, r[0] + ease, at_end + ease, who.bottom, share * who.body.thigh
            )
        if who.leg > 1:
            shin += self._sleeve(
                knee, ankle, r[1] + ease, r[2] + 2 * ease, who.bottom, who.body.shin
            )
        depth = (hip[:, 2] + knee[:, 2] + ankle[:, 2]) / 3
        return Part(-5 + np.clip(depth, -0.9, 0.9), shapes + shin + thigh)

    def trunk(self) -> list[Part]:
        """Return hips, skirt and top."""
        who, s = self.who, self.skeleton
        still = np.zeros(len(s.root))
        hips = self._bone(
            s.hips[:, LEFT],
            s.hips[:, RIGHT],
            0.055 * self.girth,
            0.055 * self.girth,
            who.bottom.colour,
        )
        parts = [Part(still - 4, hips)]
        if who.skirt:
            skirt = dress_tube(self._skirt(), who.bottom, (who.skirt + 0.06) / _PATTERN_ROW)
            parts.append(Part(still - 3, skirt))
        rows = who.body.torso / _PATTERN_ROW
        return [*parts, Part(still, dress_tube(self._torso(), who.top, rows))]

    def _torso(self) -> Tube:
        body, s, g = self.who.body, self.skeleton, self.girth
        # place down the trunk, half width across, half depth
        sections = np.array(
            [
                (-0.075, 0.042, 0.040),
                (-0.02, 0.62 * body.shoulder + 0.02, 0.048 * g),
                (0.05, body.shoulder + 0.018 * g, 0.056 * g),
                (0.2, body.shoulder + 0.006 * g, 0.066 * g),
                (0.4, 0.88 * body.shoulder, 0.070 * g),
                (0.65, 0.030 + 0.042 * g + 0.22 * body.hip, 0.060 * g),
                (0.85, body.hip + 0.040 * g, 0.066 * g),
                (1.06, body.hip + 0.055 * g, 0.070 * g),
            ]
        )
        return self._tube(s.neck, s.root, sections)

    def _skirt(self) -> Tube:
        who, s, g = self.who, self.skeleton, self.girth
        share = min(0.95, who.skirt / who.body.thigh)
        ends = s.hips + share * (s.knees - s.hips)
        hem = ends.mean(axis=1)
        hem[:, 1] += who.skirt - share * who.body.thigh
        spread = np.abs(ends[:, LEFT, 0] - ends[:, RIGHT, 0]) / 2
        waist = s.root + 0.3 * (s.neck - s.root)
        hip = who.body.hip + 0.050 * g
        sections = np.array([(0.0, 0.7 * hip + 0.012, 0.05), (0.4, hip, 0.06), (1.0, hip, 0.07)])
        tube = self._tube(waist, hem, sections)
        half = tube.half.copy()
        half[:, -1] = self.scale * np.sqrt((spread + 0.062 * g) ** 2 + 0.07**2)
        return Tube(tube.centres, half, tube.right, tube.yaw)

    def _tube(self, top: Array, end: Array, sections: Array) -> Tube:
        """Return a tube from ``top`` to ``end``; sections (L, 3): place, half width, half depth."""
        place, wide, deep = sections.T
        ends = self.project(np.stack([top, end], axis=1))
        axis = ends[:, 1] - ends[:, 0]
        centres = ends[:, :1] + place[:, None] * axis[:, None]
        down = axis / np.sqrt((axis**2).sum(axis=-1, keepdims=True))
        yaw = (self.skeleton.chest_yaw + self.skeleton.yaw) / 2
        cos, sin = np.cos(yaw)[:, None], np.sin(yaw)[:, None]
        half = np.sqrt((wide * cos) ** 2 + (deep * sin) ** 2)
        right = np.stack([down[:, 1], -down[:, 0]], axis=-1)
        return Tube(centres, self.scale[:, None] * half, right, yaw)

    def _bone(
        self, first: Array, second: Array, radius: float, end: float, colour: Colour
    ) -> list[Shape]:
        """Return a capsule, shaded on the right and below."""
        ends = self.project(np.stack([first, second], axis=1))
        sized = partial(np.multiply, self.scale)
        light = -0.2 * np.array([0.8, 0.6])
        lit = [ends[:, i] + sized(r)[:, None] * light for i, r in enumerate((radius, end))]
        return [
            Shape(capsule(ends[:, 0], ends[:, 1], sized(radius), sized(end)), shade(colour, SHADE)),
            Shape(capsule(*lit, sized(0.74 * radius), sized(0.74 * end)), colour),
        ]

    def _sleeve(
        self, first: Array, second: Array, radius: float, end: float, cloth: Cloth, reach: float
    ) -> list[Shape]:
        """Return a covered part of a limb of this length, with its pattern."""
        shapes = self._bone(first, second, radius, end, cloth.colour)
        if cloth.pattern == "emblem":
            return shapes
        ends = self.project(np.stack([first, second], axis=1))
        axis = ends[:, 1] - ends[:, 0]
        length = np.sqrt((axis**2).sum(axis=-1, keepdims=True))
        right = np.stack([axis[:, 1], -axis[:, 0]], axis=-1) / np.maximum(length, 1e-6)
        half = self.scale[:, None] * np.array([radius, end])
        tube = Tube(ends, half, right, self.skeleton.chest_yaw)
        return shapes + ink(tube, cloth, reach / _PATTERN_ROW)
