"""The key points of a `PoseSequence` on a skeleton: which are where, and which can be seen."""

import numpy as np
from numpy.typing import NDArray

from unianimate.pose import sequence as at

from .motion import LEFT, RIGHT
from .skeleton import Head, Skeleton

Array = NDArray[np.float64]


def _mirrored(right: list[tuple[float, float, float]]) -> list[tuple[float, float, float]]:
    """Return right-hand points and, in reverse order, the left-hand ones."""
    return right + [(-azimuth, y, out) for azimuth, y, out in reversed(right)]


def _face() -> Array:
    """Return the 68 points in dlib's order as azimuth, height, distance from the skin."""
    side = np.linspace(-1, 1, 17)
    jaw = [
        (float(1.42 * np.sign(s) * abs(s) ** 0.45), float(1.0 - 1.0 * abs(s) ** 1.9), 0.0)
        for s in side
    ]
    brow = [(-0.74, -0.19, 0.0), (-0.62, -0.25, 0.0), (-0.48, -0.265, 0.0)]
    brow += [(-0.35, -0.25, 0.0), (-0.22, -0.22, 0.0)]
    bridge = [(0.0, -0.03, 0.04), (0.0, 0.09, 0.08), (0.0, 0.2, 0.13), (0.0, 0.3, 0.18)]
    nostrils = [(-0.19, 0.37, 0.05), (-0.1, 0.39, 0.08), (0.0, 0.4, 0.1)]
    nostrils += [(0.1, 0.39, 0.08), (0.19, 0.37, 0.05)]
    eye = [(-0.60, 0.0, 0.0), (-0.48, -0.07, 0.0), (-0.34, -0.07, 0.0)]
    eye += [(-0.22, 0.01, 0.0), (-0.34, 0.055, 0.0), (-0.48, 0.055, 0.0)]
    # the left eye runs from its inner corner
    left_eye = [(-eye[i][0], eye[i][1], 0.0) for i in (3, 2, 1, 0, 5, 4)]
    upper = [(-0.36, 0.585, 0.0), (-0.2, 0.555, 0.02), (-0.07, 0.53, 0.03), (0.0, 0.54, 0.03)]
    upper += [(0.07, 0.53, 0.03), (0.2, 0.555, 0.02), (0.36, 0.585, 0.0)]
    lower = [(0.2, 0.65, 0.02), (0.08, 0.685, 0.03), (0.0, 0.69, 0.03)]
    lower += [(-0.08, 0.685, 0.03), (-0.2, 0.65, 0.02)]
    inner = [(-0.3, 0.59, 0.0), (-0.1, 0.585, 0.02), (0.0, 0.59, 0.02), (0.1, 0.585, 0.02)]
    inner += [(0.3, 0.59, 0.0), (0.1, 0.61, 0.02), (0.0, 0.615, 0.02), (-0.1, 0.61, 0.02)]
    return np.array(
        [*jaw, *_mirrored(brow), *bridge, *nostrils, *eye, *left_eye, *upper, *lower, *inner]
    )


FACE = _face()
_HEAD_POINTS = {
    at.NOSE: (0.0, 0.3, 0.18),
    at.RIGHT_EYE: (-0.41, 0.0, 0.0),
    at.LEFT_EYE: (0.41, 0.0, 0.0),
    at.RIGHT_EAR: (-1.6, 0.1, 0.04),
    at.LEFT_EAR: (1.6, 0.1, 0.04),
}
# eyes and nose vanish over the rim, ears a little behind it
_LAST_SEEN = {at.RIGHT_EAR: 1.85, at.LEFT_EAR: 1.85}

# the outline of the face is found a little beyond the rim
_LAST_FOUND = 1.75


def body_points(skeleton: Skeleton) -> tuple[Array, NDArray[np.bool_]]:
    """Return the 20 body points (F, 20, 3) in space and which are seen (F, 20).

    Only the head hides its own points; a limb behind the body keeps its points, as the
    key-point networks find them there too.
    """
    bodies = np.zeros((len(skeleton.root), 20, 3))
    visible = np.ones((len(bodies), 20), dtype=bool)
    bodies[:, at.NECK] = skeleton.neck
    sided = {
        (at.LEFT_SHOULDER, at.RIGHT_SHOULDER): skeleton.shoulders,
        (at.LEFT_ELBOW, at.RIGHT_ELBOW): skeleton.elbows,
        (at.LEFT_WRIST, at.RIGHT_WRIST): skeleton.wrists,
        (at.LEFT_HIP, at.RIGHT_HIP): skeleton.hips,
        (at.LEFT_KNEE, at.RIGHT_KNEE): skeleton.knees,
        (at.LEFT_ANKLE, at.RIGHT_ANKLE): skeleton.ankles,
        (at.LEFT_TOE, at.RIGHT_TOE): skeleton.toes,
    }
    for (left, right), points in sided.items():
        bodies[:, left], bodies[:, right] = points[:, LEFT], points[:, RIGHT]
    for index, (azimuth, height, out) in _HEAD_POINTS.items():
        place = (np.array([value]) for value in (azimuth, height, out))
        bodies[:, index] = skeleton.head.at(*place)[:, 0]
        visible[:, index] = skeleton.head.facing(azimuth) < _LAST_SEEN.get(index, np.pi / 2)
    return bodies, visible


def face_points(head: Head) -> tuple[Array, NDArray[np.bool_]]:
    """Return the 68 points of the face (F, 68, 3) and which can be found (F, 68)."""
    azimuth, height, out = FACE.T
    seen = np.stack([head.facing(float(a)) < _LAST_FOUND for a in azimuth], axis=-1)
    return head.at(azimuth, height, out), seen
