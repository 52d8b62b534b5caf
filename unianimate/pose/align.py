"""Rescale a driving pose to the proportions of a reference, limb by limb."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .sequence import (
    LEFT_ANKLE,
    LEFT_EAR,
    LEFT_ELBOW,
    LEFT_EYE,
    LEFT_HIP,
    LEFT_KNEE,
    LEFT_SHOULDER,
    LEFT_TOE,
    LEFT_WRIST,
    MISSING,
    NECK,
    NOSE,
    RIGHT_ANKLE,
    RIGHT_EAR,
    RIGHT_ELBOW,
    RIGHT_EYE,
    RIGHT_HIP,
    RIGHT_KNEE,
    RIGHT_SHOULDER,
    RIGHT_TOE,
    RIGHT_WRIST,
    PoseSequence,
)

Points = NDArray[np.float64]
_LEFT_HAND, _RIGHT_HAND = 0, 1


@dataclass(frozen=True)
class _Limb:
    """A bone from parent to child; what hangs on the child moves with it.

    ``twin`` is the same limb on the other side, whose ratio serves where this one cannot be seen.
    """

    parent: int
    child: int
    moved: tuple[int, ...]
    hand: int | None = None
    twin: int | None = None


# in the official order: a limb is measured after those before it have moved
_LIMBS = (
    _Limb(NECK, NOSE, (NOSE, RIGHT_EYE, LEFT_EYE, RIGHT_EAR, LEFT_EAR)),
    _Limb(NECK, RIGHT_SHOULDER, (RIGHT_SHOULDER, RIGHT_ELBOW, RIGHT_WRIST), _RIGHT_HAND, 2),
    _Limb(NECK, LEFT_SHOULDER, (LEFT_SHOULDER, LEFT_ELBOW, LEFT_WRIST), _LEFT_HAND, 1),
    _Limb(RIGHT_SHOULDER, RIGHT_ELBOW, (RIGHT_ELBOW, RIGHT_WRIST), _RIGHT_HAND, 5),
    _Limb(RIGHT_ELBOW, RIGHT_WRIST, (RIGHT_WRIST,), _RIGHT_HAND, 6),
    _Limb(LEFT_SHOULDER, LEFT_ELBOW, (LEFT_ELBOW, LEFT_WRIST), _LEFT_HAND, 3),
    _Limb(LEFT_ELBOW, LEFT_WRIST, (LEFT_WRIST,), _LEFT_HAND, 4),
    _Limb(NOSE, RIGHT_EYE, (RIGHT_EYE, RIGHT_EAR), None, 8),
    _Limb(NOSE, LEFT_EYE, (LEFT_EYE, LEFT_EAR), None, 7),
    _Limb(RIGHT_EYE, RIGHT_EAR, (RIGHT_EAR,), None, 10),
    _Limb(LEFT_EYE, LEFT_EAR, (LEFT_EAR,), None, 9),
    _Limb(RIGHT_HIP, RIGHT_KNEE, (RIGHT_KNEE, RIGHT_ANKLE, RIGHT_TOE), None, 13),
    _Limb(RIGHT_KNEE, RIGHT_ANKLE, (RIGHT_ANKLE, RIGHT_TOE), None, 14),
    _Limb(LEFT_HIP, LEFT_KNEE, (LEFT_KNEE, LEFT_ANKLE, LEFT_TOE), None, 11),
    _Limb(LEFT_KNEE, LEFT_ANKLE, (LEFT_ANKLE, LEFT_TOE), None, 12),
)


def align_pose(driving: PoseSequence, reference: PoseSequence) -> PoseSequence:
    """Give the driving person the proportions and the place of the reference person.

    The official UniAnimate alignment: scale by the shoulder width and the torso height, set the
    length of every limb, then move everything so that the necks meet. All of it is measured in one
    driving frame, so the motion is kept: the first that shows neck and shoulders, else the first
    that shows anything, because a video may begin before the person is seen. Where the official
    code divides by a missing point, a limb takes the ratio of its twin on the other side, or keeps
    its scaled length; missing points stay missing.

    Args:
        driving: F frames.
        reference: its first frame is used.

    Returns:
        F frames at the fps of ``driving``, with the width and height of ``reference``.
    """
    absent = _missing(driving.bodies)
    first = _first_measurable(absent)
    scale = _scale(driving[first : first + 1], reference)
    bodies = driving.bodies * scale
    hands, no_hand = driving.hands * scale, _missing(driving.hands)
    faces, no_face = driving.faces * scale, _missing(driving.faces)

    target, no_target = reference.bodies[0], _missing(reference.bodies[0])
    ratios = [_ratio(limb, bodies[first], absent[first], target, no_target) for limb in _LIMBS]
    for limb, own in zip(_LIMBS, ratios):
        twin = None if limb.twin is None else ratios[limb.twin]
        ratio = own if own is not None else twin if twin is not None else 1.0
        offset = (bodies[:, limb.parent] - bodies[:, limb.child]) * (1 - ratio)
        offset[absent[:, limb.parent] | absent[:, limb.child]] = 0
        bodies[:, limb.moved] += offset[:, None]
        if limb.hand is not None:
            hands[:, limb.hand] += offset[:, None]

    shift = _shift(bodies[first], absent[first], target, no_target)
    for points, missing in ((bodies, absent), (hands, no_hand), (faces, no_face)):
        points += shift
        points[missing] = MISSING
    return replace(
        driving,
        bodies=bodies,
        visible=driving.visible & ~absent,
        hands=hands,
        faces=faces,
        width=reference.width,
        height=reference.height,
    )


def _missing(points: Points) -> NDArray[np.bool_]:
    return np.asarray((points == MISSING).all(axis=-1))


def _first_measurable(absent: NDArray[np.bool_]) -> int:
    """Return the first frame with neck and shoulders, else with any point, else the first."""
    seen = ~absent
    complete = seen[:, [NECK, RIGHT_SHOULDER, LEFT_SHOULDER]].all(axis=1)
    return int(np.argmax(complete if complete.any() else seen.any(axis=1)))


def _scale(driving: PoseSequence, reference: PoseSequence) -> Points:
    """Return the factors of x and y: shoulder width and torso height, the other where one lacks."""
    first, target = driving.bodies[0], reference.bodies[0]
    seen = ~(_missing(first) | _missing(target))
    shoulders, hips = [RIGHT_SHOULDER, LEFT_SHOULDER], [RIGHT_HIP, LEFT_HIP]

    def ratio(wanted: float, present: float) -> float | None:
        return wanted / present if present and wanted else None

    x = y = None
    if seen[shoulders].all():
        x = ratio(*((p[LEFT_SHOULDER] - p[RIGHT_SHOULDER])[0] for p in (target, first)))
    if seen[shoulders + hips].all():
        y = ratio(
            *(
                (p[[RIGHT_HIP, LEFT_HIP]].mean(0) - p[[RIGHT_SHOULDER, LEFT_SHOULDER]].mean(0))[1]
                for p in (target, first)
            )
        )
    # one factor in pixels gives both: the pictures may differ in shape
    shape = (driving.height / reference.height) / (driving.width / reference.width)
    if x is None:
        x = 1.0 if y is None else abs(y) / shape
    if y is None:
        y = abs(x) * shape if seen[shoulders].all() else 1.0
    return np.array([x, y])


def _ratio(
    limb: _Limb,
    first: Points,
    absent: NDArray[np.bool_],
    target: Points,
    no_target: NDArray[np.bool_],
) -> float | None:
    """Return the reference's length of a limb over the driving one's, None if one is unknown."""
    ends = [limb.parent, limb.child]
    if absent[ends].any() or no_target[ends].any():
        return None
    length = float(np.linalg.norm(first[limb.parent] - first[limb.child]))
    return (
        float(np.linalg.norm(target[limb.parent] - target[limb.child])) / length if length else None
    )


def _shift(
    first: Points, absent: NDArray[np.bool_], target: Points, no_target: NDArray[np.bool_]
) -> Points:
    """Return what moves the driving neck onto the reference's, or what both show."""
    seen = ~(absent | no_target)
    anchors = [NECK] if seen[NECK] else np.flatnonzero(seen)
    if not len(anchors):
        return np.zeros(2)
    return np.asarray((target[anchors] - first[anchors]).mean(axis=0))
