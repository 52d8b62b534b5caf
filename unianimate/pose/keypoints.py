"""The key-point network's pre- and post-processing (DWPose-L, 288 x 384): pure functions.

133 COCO-WholeBody points a person come as two distributions a point (SimCC), one over x and one
over y; they leave as OpenPose's order and then as the arrays of a `PoseSequence`.
"""

import numpy as np
from numpy.typing import NDArray

from .sequence import MISSING

Array = NDArray[np.float64]

WIDTH, HEIGHT = 288, 384
_BINS_PER_PIXEL = 2
_MARGIN = 1.25
# of ImageNet in RGB order, applied to BGR: the network is used so
_MEAN = np.array([123.675, 116.28, 103.53])
_STD = np.array([58.395, 57.12, 57.375])
_VISIBLE = 0.3

_SHOULDERS = (5, 6)
_NECK_AT = 17
# OpenPose's 18 body points among COCO's with the neck inserted at 17
_BODY = [0, 17, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3]
_TOES = ((18, 19), (21, 22))
_FACE, _LEFT_HAND, _RIGHT_HAND = slice(24, 92), slice(92, 113), slice(113, 134)


def crop_of(box: Array) -> tuple[Array, Array]:
    """Return centre and size (x, y) of the region the network sees for a box x0, y0, x1, y1."""
    centre = np.array([box[0] + box[2], box[1] + box[3]]) * 0.5
    width, height = np.array([box[2] - box[0], box[3] - box[1]]) * _MARGIN
    aspect = WIDTH / HEIGHT
    if width > height * aspect:
        return centre, np.array([width, width / aspect])
    return centre, np.array([height * aspect, height])


def crop(image: NDArray[np.uint8], centre: Array, size: Array) -> Array:
    """Cut a region out of a BGR picture (H, W, 3), normalised: float64 (3, 384, 288)."""
    import cv2

    up = np.array([0.0, size[0] * -0.5])
    source = np.zeros((3, 2), dtype=np.float32)
    source[0], source[1] = centre, centre + up
    target = np.zeros((3, 2), dtype=np.float32)
    target[0] = WIDTH * 0.5, HEIGHT * 0.5
    target[1] = target[0] + np.array([0.0, WIDTH * -0.5])
    for corners in (source, target):
        side = corners[0] - corners[1]
        corners[2] = corners[1] + np.array([-side[1], side[0]], dtype=np.float32)
    warp = cv2.getAffineTransform(source, target)
    region = cv2.warpAffine(image, warp, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR)
    return np.asarray(((region - _MEAN) / _STD).transpose(2, 0, 1), dtype=np.float64)


def decode_points(
    x: NDArray[np.float32], y: NDArray[np.float32], centre: Array, size: Array
) -> tuple[Array, Array]:
    """Turn the distributions (133, 576) and (133, 768) into 134 points in OpenPose's order.

    Returns:
        points (134, 2) in pixels of the picture, and their scores (134,).
    """
    scores = np.minimum(x.max(axis=1), y.max(axis=1)).astype(np.float64)
    at = np.stack([x.argmax(axis=1), y.argmax(axis=1)], axis=-1).astype(np.float64)
    at[scores <= 0] = -1
    at /= _BINS_PER_PIXEL
    points = at / np.array([WIDTH, HEIGHT]) * size + centre - size / 2

    neck = points[list(_SHOULDERS)].mean(axis=0)
    certain = float((scores[list(_SHOULDERS)] > _VISIBLE).all())
    points = np.insert(points, _NECK_AT, neck, axis=0)
    scores = np.insert(scores, _NECK_AT, certain)
    order = [*_BODY, *range(18, 134)]
    return points[order], scores[order]


def to_pose(
    points: Array, scores: Array, width: int, height: int
) -> tuple[Array, NDArray[np.bool_], Array, Array, Array]:
    """Turn 134 points of one person into a frame of a `PoseSequence`.

    Returns:
        body (20, 2), visible (20,), hands (2, 21, 2), face (68, 2), body scores (20,).
    """
    unit = points / np.array([width, height])
    unit[scores < _VISIBLE] = MISSING
    toes, toe_scores = [], []
    for pair in _TOES:
        both = list(pair)
        present = (unit[both] != MISSING).all()
        toes.append(unit[both].mean(axis=0) if present else np.full(2, MISSING))
        toe_scores.append(scores[both].min())
    body = np.concatenate([unit[:18], toes])
    body_scores = np.concatenate([scores[:18], toe_scores])
    hands = np.stack([unit[_LEFT_HAND], unit[_RIGHT_HAND]])
    return body, body_scores > _VISIBLE, hands, unit[_FACE], body_scores
