"""From a skeleton to painted parts: limbs, clothes, hands, and the order they hide each other."""

from dataclasses import replace

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
# how far the end of a sleeve bulges, in half widths
_HEM = 0.25
# how far cloth stands off the skin, in body heights
_EASE = 0.006
# where the light comes from, in the picture
_LIGHT = np.array([-0.8, -0.6])
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


def cast_shadow(skeleton: Skeleton, view: View) -> Array:
    """Return the shadows of the feet on the ground: (F, 2, 16, 2) in pixels."""
    feet = (skeleton.heels + skeleton.toes) / 2
    feet[..., 1] = 0
    turn = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    rim = np.stack([0.1 * np.cos(turn) + 0.015, 0 * turn, 0.1 * np.sin(turn)], axis=-1)
    return view.project(feet[:, :, None] + rim)


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
        top = shoulder + 0.01 * s.chest[:, 1]
        upper = self._upper_part(top, elbow, r, who.sleeve, who.top, who.body.upper_arm)
        hand = self._hand(side)
        if who.sleeve > 1:
            cuff, reach = elbow + 0.96 * (wrist - elbow), who.body.forearm
            lower = self._sleeve(elbow, cuff, r[1] + _EASE, r[2] + _EASE, who.top, reach)
            lower = hand + lower
        else:
            lower = self._bone(elbow, wrist, r[1], r[2], who.skin) + hand
        back = s.neck[:, 2]
        return [
            Part(self._layer((shoulder[:, 2] + elbow[:, 2]) / 2 - back), upper),
            Part(self._layer((elbow[:, 2] + 2 * wrist[:, 2]) / 3 - back), lower),
        ]

    def _layer(self, z: Array) -> Array:
        return np.where(z > _BEHIND, 10 + z, -10 + z)

    def _hand(self, side: int) -> list[Shape]:
        points = self.project(self.skeleton.hands[:, side])
        # without the bones that lie in the palm
        fingers = points[:, 1:].reshape(-1, 5, 4, 2)
        width = max(1, round(0.0165 * self.girth * self.unit))
        wrist = np.broadcast_to(points[:, :1], (len(points), 1, 2))
        palm = np.concatenate([wrist, points[:, _PALM]], axis=1)[:, None]
        skin = self.who.skin
        shapes = [
            Shape(palm, skin),
            Shape(fingers, skin, line=max(1, width - (width > 2))),
        ]
        if width < 3:
            return shapes
        dark = shade(skin, 0.86)
        return [
            Shape(palm, dark, line=width),
            Shape(fingers, dark, line=width + (width > 3)),
            *shapes,
        ]

    def leg(self, side: int) -> Part:
        """Return foot, shin and thigh."""
        who, s = self.who, self.skeleton
        hip, knee, ankle = s.hips[:, side], s.knees[:, side], s.ankles[:, side]
        r = [0.052 * self.girth, 0.035 * self.girth, 0.0225 * self.girth]
        shapes = self._bone(s.heels[:, side], s.toes[:, side], 0.021, 0.0175, who.shoe)
        shapes = self._bone(ankle, s.heels[:, side], 0.02, 0.02, who.shoe) + shapes
        thigh = self._upper_part(hip, knee, r, who.leg, who.bottom, who.body.thigh)
        if who.leg > 1:
            cuff = r[2] + 2 * _EASE
            shin = self._sleeve(knee, ankle, r[1] + _EASE, cuff, who.bottom, who.body.shin)
        else:
            shin = self._bone(knee, ankle, r[1], r[2], who.skin)
        depth = (hip[:, 2] + knee[:, 2] + ankle[:, 2]) / 3
        return Part(-5 + np.clip(depth, -0.9, 0.9), shapes + shin + thigh)

    def trunk(self) -> list[Part]:
        """Return hips, skirt and top."""
        who, s = self.who, self.skeleton
        still = np.zeros(len(s.root))
        hips = dress_tube(self._pelvis(), who.bottom, 0.1 / _PATTERN_ROW, who.bottom.repeats)
        parts = [Part(still - 4, hips)]
        if who.skirt:
            rows = (who.skirt + 0.06) / _PATTERN_ROW
            skirt = dress_tube(self._skirt(), who.bottom, rows, who.bottom.repeats)
            parts.append(Part(still - 3, skirt))
        rows = who.body.torso / _PATTERN_ROW
        return [*parts, Part(still, dress_tube(self._torso(), who.top, rows, who.top.repeats))]

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

    def _pelvis(self) -> Tube:
        hip, g = self.who.body.hip, self.girth
        sections = np.array(
            [
                (0.8, hip + 0.032 * g, 0.058 * g),
                (1.0, hip + 0.047 * g, 0.066 * g),
                (1.12, hip + 0.048 * g, 0.066 * g),
                (1.2, 0.8 * hip + 0.02 * g, 0.045 * g),
            ]
        )
        return self._tube(self.skeleton.neck, self.skeleton.root, sections)

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
        return replace(tube, half=half)

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
        return Tube(centres, self.scale[:, None] * half, right, yaw, _unit(place))

    def _bone(
        self,
        first: Array,
        second: Array,
        radius: float,
        end: float,
        colour: Colour,
        tip: float = 1.0,
    ) -> list[Shape]:
        """Return a capsule, shaded on the side that is away from the light."""
        ends = self.project(np.stack([first, second], axis=1))
        radii = self.scale[:, None] * np.array([radius, end])
        along, across = _directions(ends)
        # aside only: joints then meet without a dark ring
        aside = 0.24 * np.sum(_LIGHT * across, axis=-1, keepdims=True) * across
        reach = 0.2 * along
        lit = [
            ends[:, i] + radii[:, i, None] * (aside + step)
            for i, step in enumerate((-reach, tip * reach))
        ]
        outline = capsule(ends[:, 0], ends[:, 1], radii[:, 0], radii[:, 1], tip)
        inner = capsule(lit[0], lit[1], 0.8 * radii[:, 0], 0.8 * radii[:, 1], tip)
        return [Shape(outline, shade(colour, SHADE)), Shape(inner, colour)]

    def _upper_part(
        self,
        first: Array,
        second: Array,
        radii: list[float],
        covered: float,
        cloth: Cloth,
        reach: float,
    ) -> list[Shape]:
        """Return upper arm or thigh of length ``reach``; more than 1 ``covered`` is all of it."""
        shapes: list[Shape] = []
        if covered <= 1:
            shapes += self._bone(first, second, radii[0], radii[1], self.who.skin)
        if covered > 0:
            share = min(1.0, covered)
            end = first + share * (second - first)
            at_end = radii[0] + share * (radii[1] - radii[0]) + _EASE
            tip = 1.0 if covered > 1 else _HEM
            start = radii[0] + _EASE
            shapes += self._sleeve(first, end, start, at_end, cloth, share * reach, tip)
        return shapes

    def _sleeve(
        self,
        first: Array,
        second: Array,
        radius: float,
        end: float,
        cloth: Cloth,
        reach: float,
        tip: float = _HEM,
    ) -> list[Shape]:
        """Return a covered part of a limb of length ``reach``, with its pattern."""
        shapes = self._bone(first, second, radius, end, cloth.colour, tip)
        if cloth.pattern == "emblem":
            return shapes
        ends = self.project(np.stack([first, second], axis=1))
        along, across = _directions(ends)
        half = self.scale[:, None] * np.array([0.75 * radius, radius, end, 0.97 * end])
        top = ends[:, 0] - 0.75 * half[:, 1, None] * along
        hem = ends[:, 1] + 0.2 * half[:, 2, None] * along
        centres = np.stack([top, ends[:, 0], ends[:, 1], hem], axis=1)
        place = _unit(np.array([-0.75 * radius, 0, reach, reach + 0.2 * end]))
        tube = Tube(centres, half, -across, self.skeleton.chest_yaw, place)
        return shapes + ink(tube, cloth, reach / _PATTERN_ROW + 1, cloth.repeats // 2)


def _unit(place: Array) -> Array:
    return np.asarray((place - place[0]) / (place[-1] - place[0]))


def _directions(ends: Array) -> tuple[Array, Array]:
    """Return unit vectors (F, 2) along and across a bone (F, 2, 2)."""
    axis = ends[:, 1] - ends[:, 0]
    angle = np.arctan2(axis[:, 1], axis[:, 0])
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([cos, sin], axis=-1), np.stack([-sin, cos], axis=-1)
