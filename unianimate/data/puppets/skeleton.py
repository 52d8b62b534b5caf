"""Forward kinematics: from joint angles to points in space.

World axes: x to the right of the picture, y down, z towards the camera, in heights of the body,
the origin on the ground. A basis (F, 3, 3) holds three vectors: to the person's left, down along
the body, forwards.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .identity import Proportions
from .motion import Angles

Array = NDArray[np.float64]

# along the hand, towards the thumb, in lengths of the hand; then the direction of the finger
_FINGER_BASES = ((0.14, 0.16), (0.50, 0.19), (0.53, 0.06), (0.50, -0.07), (0.45, -0.18))
_FINGER_FAN = (0.85, 0.16, 0.03, -0.10, -0.24)
_BONES = ((0.20, 0.17, 0.14), (0.22, 0.14, 0.11), (0.24, 0.15, 0.11), (0.22, 0.14, 0.11))
_FINGER_BONES = (*_BONES, (0.17, 0.11, 0.09))

# half width of the head over its height: from the top -1 to the chin 1, in half heights
_HEAD_Y = np.array([-1.0, -0.94, -0.8, -0.6, -0.3, 0.0, 0.3, 0.55, 0.75, 0.9, 1.0])
_HEAD_X = np.array([0.0, 0.33, 0.57, 0.73, 0.82, 0.82, 0.77, 0.68, 0.53, 0.36, 0.17])


@dataclass(frozen=True)
class Head:
    """Heads in space: a stack of circles along ``down``.

    Args:
        centre: (F, 3). down: (F, 3) unit vector. yaw: (F,) against the camera. nod: (F,).
        size: half the height, in heights of the body.
    """

    centre: Array
    down: Array
    right: Array
    yaw: Array
    nod: Array
    size: float

    def at(self, azimuth: Array, height: Array, out: Array, *, clamp: bool = False) -> Array:
        """Return points (F, N, 3) on the head.

        Args:
            azimuth: (F, N) or (N,) from the face towards the person's left, in radians.
            height: (F, N) or (N,), -1 at the top, 1 at the chin.
            out: (F, N) or (N,), off the skin, in half heights.
            clamp: move what is turned away onto the rim of the visible half.
        """
        yaw, sine = self.yaw[:, None], np.sin(self.nod)[:, None]
        local = azimuth + 0 * yaw
        seen = wrapped(local + yaw)
        if clamp:
            seen = np.clip(seen, -np.pi / 2, np.pi / 2)
            local = seen - yaw
        radius = head_radius(height) + out
        chin = 0.16 * np.clip(height, 0, 1) ** 2 - sine * height
        across = radius * np.sin(seen) + chin * np.sin(yaw)
        along = height + sine * radius * np.cos(local)
        depth = radius * np.cos(seen) + chin * np.cos(yaw)
        # the picture's right and down as seen by this head, and the axis to the camera
        toward = np.array([0.0, 0.0, 1.0])
        offset = (
            across[..., None] * self.right[:, None]
            + along[..., None] * self.down[:, None]
            + depth[..., None] * toward
        )
        return np.asarray(self.centre[:, None] + self.size * offset)

    def facing(self, azimuth: Array | float) -> Array:
        """Return how far from the line of sight an azimuth is, in [0, pi]."""
        return np.asarray(np.abs(wrapped(azimuth + self.yaw)))


@dataclass(frozen=True)
class Skeleton:
    """Points in space, in heights of the body; sides are left, right.

    Args:
        root: (F, 3) middle of the hips. neck: (F, 3) middle of the shoulders.
        shoulders, elbows, wrists, hips, knees, ankles, heels, toes: (F, 2, 3).
        hands: (F, 2, 21, 3).
        chest, pelvis: (F, 3, 3) bases.
        head: the head.
        yaw: (F,) of the hips; chest_yaw: (F,) of the shoulders.
    """

    root: Array
    neck: Array
    shoulders: Array
    elbows: Array
    wrists: Array
    hips: Array
    knees: Array
    ankles: Array
    heels: Array
    toes: Array
    hands: Array
    chest: Array
    head: Head
    yaw: Array
    chest_yaw: Array


def head_radius(height: Array) -> Array:
    """Return the half width of a head at a height from -1 (top) to 1 (chin)."""
    return np.asarray(np.interp(height, _HEAD_Y, _HEAD_X))


def wrapped(angle: Array) -> Array:
    """Return the same angle within -pi and pi."""
    return np.asarray((angle + np.pi) % (2 * np.pi) - np.pi)


def build_skeleton(body: Proportions, angles: Angles) -> Skeleton:
    """Place every joint of a body at these angles, its lower foot on the ground."""
    still = np.zeros_like(angles.yaw)
    level = _basis(angles.yaw, still, still)
    pelvis = _basis(angles.yaw, still, 0.4 * angles.side)
    chest_yaw = angles.yaw + angles.twist
    chest = _basis(chest_yaw, angles.lean, angles.side)

    hips = _along(pelvis, body.hip * np.stack([_ONE, -_ONE]))
    knees, ankles, heels, toes = _legs(body, angles, pelvis, level, hips)
    lowest = np.concatenate([heels, toes], axis=1)[..., 1]
    # a smooth maximum, for the ground to be met without a jerk
    sharp = 80.0
    ground = np.log(np.exp(sharp * (lowest - 0.5)).sum(axis=1)) / sharp + 0.5
    root = np.stack([angles.x, -ground - angles.hop, still], axis=-1)
    root = root + angles.sway[:, None] * level[:, 0]
    hips, knees, ankles, heels, toes = (
        points + root[:, None] for points in (hips, knees, ankles, heels, toes)
    )

    neck = root - body.torso * chest[:, 1]
    shoulders = neck[:, None] + _along(chest, body.shoulder * np.stack([_ONE, -_ONE]))
    elbows, wrists, hands = _arms(body, angles, chest, shoulders)
    return Skeleton(
        root=root,
        neck=neck,
        shoulders=shoulders,
        elbows=elbows,
        wrists=wrists,
        hips=hips,
        knees=knees,
        ankles=ankles,
        heels=heels,
        toes=toes,
        hands=hands,
        chest=chest,
        head=_head(body, angles, chest, chest_yaw, neck),
        yaw=angles.yaw,
        chest_yaw=chest_yaw,
    )


_ONE = np.array([1.0, 0.0, 0.0])
_SIGN = np.array([1.0, -1.0])  # left, right


def _basis(yaw: Array, lean: Array, side: Array) -> Array:
    """Return left, down and forward vectors (F, 3, 3): turned, then leaning forwards and aside."""
    none = np.zeros_like(yaw)
    left = np.stack([np.cos(yaw), none, -np.sin(yaw)], axis=-1)
    down = np.stack([none, none + 1, none], axis=-1)
    ahead = np.stack([np.sin(yaw), none, np.cos(yaw)], axis=-1)
    down, ahead = _turned(down, ahead, -lean)
    down, left = _turned(down, left, -side)
    return np.stack([left, down, ahead], axis=1)


def _turned(first: Array, second: Array, angle: Array) -> tuple[Array, Array]:
    """Turn two perpendicular vectors in their plane, the first towards the second."""
    cos, sin = (f(angle).reshape(*angle.shape, *[1] * (first.ndim - angle.ndim)) for f in _TURN)
    return first * cos + second * sin, second * cos - first * sin


_TURN = (np.cos, np.sin)


def _along(basis: Array, local: Array) -> Array:
    """Return local vectors (..., 3) in world axes: (F, N, 3) from a basis (F, 3, 3)."""
    parts = (local[..., i, None] * basis[:, None, i] for i in range(3))
    return np.asarray(sum(parts))


def _limb(swing: Array, lift: Array) -> tuple[Array, Array, Array]:
    """Return local vectors (F, 2, 3) of a limb: along it, ahead of it, outwards from it."""
    sin_s, cos_s, sin_l, cos_l = np.sin(swing), np.cos(swing), np.sin(lift), np.cos(lift)
    along = np.stack([_SIGN * sin_l * cos_s, cos_l * cos_s, sin_s], axis=-1)
    ahead = np.stack([-_SIGN * sin_l * sin_s, -cos_l * sin_s, cos_s], axis=-1)
    outwards = np.stack([_SIGN * cos_l, -sin_l, np.zeros_like(swing)], axis=-1)
    return along, ahead, outwards


def _arms(
    body: Proportions, angles: Angles, chest: Array, shoulders: Array
) -> tuple[Array, Array, Array]:
    """Return elbows, wrists (F, 2, 3) and hands (F, 2, 21, 3)."""
    along, ahead, outwards = _limb(angles.swing, angles.lift)
    bend, across = _turned(ahead, outwards, angles.outward)
    fore, thumb = _turned(along, bend, angles.elbow)
    thumb, across = _turned(thumb, across, angles.roll)
    # into the palm: at hanging arms, towards the thigh
    palm = -across
    fingers = _hands(body.hand, angles, fore, thumb, palm)
    elbows = shoulders + body.upper_arm * _along(chest, along)
    wrists = elbows + body.forearm * _along(chest, fore)
    flat = fingers.reshape(len(fingers), -1, 3)
    hands = _along(chest, flat).reshape(fingers.shape) + wrists[:, :, None]
    return elbows, wrists, hands


def _hands(size: float, angles: Angles, fore: Array, thumb: Array, palm: Array) -> Array:
    """Return 21 points (F, 2, 21, 3) relative to the wrist, in the chest's axes."""
    points = [np.zeros_like(fore)]
    for base, fan, bones in zip(_FINGER_BASES, _FINGER_FAN, _FINGER_BONES):
        point = size * (base[0] * fore + base[1] * thumb)
        points.append(point)
        straight, _ = _turned(fore, thumb, fan * angles.spread)
        for joint, bone in enumerate(bones, start=1):
            direction, _ = _turned(straight, palm, joint * angles.curl)
            point = point + size * bone * direction
            points.append(point)
    return np.stack(points, axis=2)


def _legs(
    body: Proportions, angles: Angles, pelvis: Array, level: Array, hips: Array
) -> tuple[Array, Array, Array, Array]:
    """Return knees, ankles, heels, toes (F, 2, 3), relative to the root as ``hips`` are."""
    along, ahead, _ = _limb(angles.stride, angles.astride)
    shin, _ = _turned(along, -ahead, angles.knee)
    knees = hips + body.thigh * _along(pelvis, along)
    ankles = knees + body.shin * _along(pelvis, shin)
    # feet stay level with the ground, turned out a little, toes down by ``point``
    still = np.zeros_like(angles.point)
    flat = np.stack([_SIGN * 0.26 + still, still, 0.9656 + still], axis=-1)
    down = np.stack([still, still + 1, still], axis=-1)
    sole, below = _turned(flat, down, angles.point)
    sole, below = _along(level, sole), _along(level, below)
    heels = ankles + body.ankle * (0.6 * below - 0.35 * sole)
    toes = ankles + body.foot * sole + 0.6 * body.ankle * below
    return knees, ankles, heels, toes


def _head(body: Proportions, angles: Angles, chest: Array, yaw: Array, neck: Array) -> Head:
    """Set the head on the neck, leaning half as much as the chest, tilted in the picture."""
    lean = chest[:, 1] * np.array([0.5, 0.5, 0.0]) + np.array([0.0, 0.5, 0.0])
    length = np.sqrt((lean**2).sum(axis=-1, keepdims=True))
    right = np.stack([lean[:, 1], -lean[:, 0], np.zeros(len(lean))], axis=-1) / length
    down, right = _turned(lean / length, right, angles.tilt)
    base = neck - body.neck * chest[:, 1]
    return Head(
        centre=base - body.head * 0.92 * down,
        down=down,
        right=right,
        yaw=yaw + angles.turn,
        nod=angles.nod,
        size=body.head,
    )
