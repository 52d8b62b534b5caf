"""Draw poses as the network was trained to see them."""

import colorsys
import math

import numpy as np
from numpy.typing import NDArray

from .sequence import PoseSequence

Canvas = NDArray[np.uint8]

_LIMBS = (
    *((1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11)),
    *((11, 12), (12, 13), (1, 0), (0, 14), (14, 16), (0, 15), (15, 17), (13, 18), (10, 19)),
)
_FINGERS = tuple((0 if i % 4 == 0 else i, i + 1) for i in range(20))
# blue first: the official pictures were saved with red and blue exchanged and read back so
_COLOURS = tuple(
    (blue, green, red)
    for red, green, blue in (
        *((255, 0, 0), (255, 85, 0), (255, 170, 0), (255, 255, 0), (170, 255, 0)),
        *((85, 255, 0), (0, 255, 0), (0, 255, 85), (0, 255, 170), (0, 255, 255)),
        *((0, 170, 255), (0, 85, 255), (0, 0, 255), (85, 0, 255), (170, 0, 255)),
        *((255, 0, 255), (255, 0, 170), (255, 0, 85), (170, 255, 255), (255, 255, 0)),
    )
)
_FINGER_COLOURS = tuple(
    tuple(255 * part for part in reversed(colorsys.hsv_to_rgb(i / 20, 1, 1))) for i in range(20)
)
_FINGERTIP = (255, 0, 0)
_FACE = (255, 255, 255)
_STICK, _JOINT, _FACE_POINT = 4, 4, 3
_EPSILON = 0.01
# points further away than this many canvases cannot be seen and would overflow the drawing
_FAR = 16


def draw_pose(
    pose: PoseSequence,
    height: int = 768,
    width: int = 512,
    *,
    hands: bool = True,
    face: bool = False,
) -> Canvas:
    """Draw every frame in the palette of the official pose pictures.

    Line widths do not scale with the canvas: the official pictures are 768 x 512, and are
    stretched to the model's size afterwards.

    Args:
        pose: F frames.
        height: of the canvas, in pixels.
        width: of the canvas, in pixels.
        hands: draw the hands.
        face: draw the face, which the official pictures leave out.

    Returns:
        uint8 RGB (F, height, width, 3).

    Raises:
        ValueError: a canvas without pixels.
    """
    if height < 1 or width < 1:
        raise ValueError(f"draw_pose: height and width must be pixels, got {height} x {width}")
    size = np.array([width, height], dtype=np.float64)
    frames = np.zeros((len(pose), height, width, 3), dtype=np.uint8)
    for index, canvas in enumerate(frames):
        _draw_body(canvas, pose.bodies[index] * size, pose.visible[index])
        if hands:
            for hand in pose.hands[index]:
                _draw_hand(canvas, hand * size)
        if face:
            _draw_points(canvas, pose.faces[index] * size, _FACE, _FACE_POINT)
    return frames


def _near(canvas: Canvas, points: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray((np.abs(points) < _FAR * max(canvas.shape)).all(axis=-1))


def _draw_body(canvas: Canvas, points: NDArray[np.float64], visible: NDArray[np.bool_]) -> None:
    import cv2

    drawn = visible & _near(canvas, points)
    for colour, (first, second) in zip(_COLOURS, _LIMBS):
        if not (drawn[first] and drawn[second]):
            continue
        centre = (points[first] + points[second]) / 2
        dx, dy = points[first] - points[second]
        polygon = cv2.ellipse2Poly(
            (int(centre[0]), int(centre[1])),
            (int(math.hypot(dx, dy) / 2), _STICK),
            int(math.degrees(math.atan2(dy, dx))),
            0,
            360,
            1,
        )
        cv2.fillConvexPoly(canvas, polygon, colour)
    canvas[:] = canvas * 0.6
    for colour, (x, y), shown in zip(_COLOURS, points, drawn):
        if shown:
            cv2.circle(canvas, (int(x), int(y)), _JOINT, colour, thickness=-1)


def _draw_hand(canvas: Canvas, points: NDArray[np.float64]) -> None:
    import cv2

    pixels = points.astype(np.int64)
    drawn = _near(canvas, points) & (pixels > _EPSILON).all(axis=-1)
    for colour, (first, second) in zip(_FINGER_COLOURS, _FINGERS):
        if drawn[first] and drawn[second]:
            ends = [tuple(int(v) for v in pixels[end]) for end in (first, second)]
            cv2.line(canvas, ends[0], ends[1], colour, thickness=2)
    _draw_points(canvas, points, _FINGERTIP, _JOINT)


def _draw_points(
    canvas: Canvas, points: NDArray[np.float64], colour: tuple[int, int, int], radius: int
) -> None:
    import cv2

    pixels = points.astype(np.int64)
    for x, y in pixels[_near(canvas, points) & (pixels > _EPSILON).all(axis=-1)]:
        cv2.circle(canvas, (int(x), int(y)), radius, colour, thickness=-1)
