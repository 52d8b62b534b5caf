"""The person detector's pre- and post-processing (YOLOX-L, 640 x 640): pure functions on arrays."""

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float64]

SIZE = 640
_PAD = 114
_STRIDES = (8, 16, 32)
_MIN_SCORE = 0.1
_MAX_OVERLAP = 0.45
_MIN_PERSON_SCORE = 0.3
_PERSON = 0


def letterbox(image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], float]:
    """Fit a BGR picture (H, W, 3) into the detector's square.

    Returns:
        float32 (3, 640, 640) in 0..255 and the factor the picture was scaled by.
    """
    import cv2

    height, width = image.shape[:2]
    factor = min(SIZE / height, SIZE / width)
    resized = cv2.resize(
        image,
        (max(int(width * factor), 1), max(int(height * factor), 1)),
        interpolation=cv2.INTER_LINEAR,
    )
    square = np.full((SIZE, SIZE, 3), _PAD, dtype=np.uint8)
    square[: resized.shape[0], : resized.shape[1]] = resized
    return np.ascontiguousarray(square.transpose(2, 0, 1), dtype=np.float32), factor


def decode_people(output: NDArray[np.float32], factor: float) -> tuple[Boxes, NDArray[np.float64]]:
    """Return the people among the detector's raw outputs (8400, 85), best first.

    Returns:
        boxes (N, 4) as x0, y0, x1, y1 in pixels of the picture, and their scores (N,).
    """
    raw = output.astype(np.float32).copy()
    cells, strides = [], []
    for stride in _STRIDES:
        side = SIZE // stride
        y, x = np.meshgrid(np.arange(side), np.arange(side), indexing="ij")
        cells.append(np.stack([x, y], axis=-1).reshape(-1, 2))
        strides.append(np.full((side * side, 1), stride))
    cell, step = np.concatenate(cells), np.concatenate(strides)
    centre = (raw[:, :2] + cell) * step
    size = np.exp(raw[:, 2:4]) * step
    boxes = np.concatenate([centre - size / 2, centre + size / 2], axis=1) / factor
    scores = (raw[:, 4:5] * raw[:, 5:])[:, _PERSON].astype(np.float64)
    # overlaps are resolved among all boxes of the class, then only certain people are kept
    kept = [i for i in suppress_overlaps(boxes, scores) if scores[i] > _MIN_PERSON_SCORE]
    return boxes[kept], scores[kept]


def suppress_overlaps(boxes: Boxes, scores: NDArray[np.float64]) -> list[int]:
    """Return the indices that survive non-maximum suppression, best first."""
    order = [int(i) for i in np.argsort(scores)[::-1] if scores[i] > _MIN_SCORE]
    kept: list[int] = []
    for i in order:
        if all(overlap(boxes[i], boxes[j]) <= _MAX_OVERLAP for j in kept):
            kept.append(i)
    return kept


def overlap(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Return intersection over union of two boxes, sides counted as pixels: x1 - x0 + 1."""

    def area(x0: float, y0: float, x1: float, y1: float) -> float:
        return max(0.0, x1 - x0 + 1) * max(0.0, y1 - y0 + 1)

    both = area(max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3]))
    return float(both / (area(*a) + area(*b) - both))
