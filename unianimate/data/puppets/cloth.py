"""Patterns of cloth: polygons of azimuth and height on a tube."""

import numpy as np
from numpy.typing import NDArray

from .identity import Cloth, shade
from .shapes import Shape, Tube

Array = NDArray[np.float64]

SHADE = 0.74


def dress_tube(tube: Tube, cloth: Cloth, rows: float, columns: int) -> list[Shape]:
    """Return a garment: its shade, its lit part, and its pattern.

    Args:
        tube: what wears it.
        cloth: colour and pattern.
        rows: how many times the pattern repeats down the tube.
        columns: how many times it repeats around it.
    """
    shapes = [
        Shape(tube.outline(), shade(cloth.colour, SHADE)),
        Shape(tube.outline(right=0.62), cloth.colour),
    ]
    return shapes + ink(tube, cloth, rows, columns)


def ink(tube: Tube, cloth: Cloth, rows: float, columns: int) -> list[Shape]:
    """Return the pattern alone, darker in the shade; nothing on plain cloth."""
    polygons = _polygons(cloth, max(2, round(rows)), columns)
    if not len(polygons):
        return []
    points, seen, dark = tube.wrap(polygons)
    return [
        Shape(points, cloth.ink, seen & ~dark),
        Shape(points, shade(cloth.ink, SHADE), dark),
    ]


def _polygons(cloth: Cloth, rows: int, columns: int) -> Array:
    match cloth.pattern:
        case "stripes":
            return _cells(8, rows, 1.02, 0.5)
        case "pinstripes":
            return _lines(2 * columns)
        case "dots":
            return _dots(columns, rows)
        case "checks":
            cells = _cells(2 * columns, 2 * rows, 1.0, 1.0)
            row, column = np.divmod(np.arange(len(cells)), 2 * columns)
            return np.asarray(cells[(row + column) % 2 == 0])
        case "emblem":
            return _star()
    return np.zeros((0, 4, 2))


def _cells(columns: int, rows: int, width: float, height: float) -> Array:
    """Return rectangles (rows * columns, 4, 2), of these shares of their cells."""
    corner = np.array([(0, 0), (width, 0), (width, height), (0, height)])
    row, column = np.divmod(np.arange(rows * columns), columns)
    place = np.stack([column, row], axis=-1)[:, None] + corner
    return np.asarray(place * np.array([2 * np.pi / columns, 1 / rows]))


def _lines(columns: int) -> Array:
    """Return upright lines (columns, 12, 2)."""
    down = np.linspace(0, 1, 6)
    left = np.arange(columns)[:, None] * (2 * np.pi / columns) + np.zeros(6)
    right = left + 0.3 * 2 * np.pi / columns
    azimuth = np.concatenate([left, right], axis=1)
    return np.stack([azimuth, np.broadcast_to(np.r_[down, down[::-1]], azimuth.shape)], axis=-1)


def _dots(columns: int, rows: int) -> Array:
    """Return staggered eight-cornered dots (rows * columns, 8, 2)."""
    turn = np.linspace(0, 2 * np.pi, 8, endpoint=False)
    circle = np.stack([0.3 * np.cos(turn), 0.27 * np.sin(turn)], axis=-1)
    row, column = np.divmod(np.arange(rows * columns), columns)
    centre = np.stack([column + 0.5 * (row % 2), row + 0.5], axis=-1)
    return np.asarray((centre[:, None] + circle) * np.array([2 * np.pi / columns, 1 / rows]))


def _star() -> Array:
    """Return a five-pointed star on the breast (1, 10, 2)."""
    turn = np.arange(10) * np.pi / 5 - np.pi / 2
    radius = np.where(np.arange(10) % 2, 0.42, 1.0)
    azimuth, height = 0.62 * radius * np.cos(turn), 0.34 + 0.19 * radius * np.sin(turn)
    return np.stack([azimuth, height], axis=-1)[None]
