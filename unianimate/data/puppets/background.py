"""What stands behind a puppet: rooms, walls, parks, studios, painted once a size."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .camera import View
from .identity import Colour, random_colour, shade

Array = NDArray[np.float64]
Canvas = NDArray[np.uint8]
Kind = Literal["room", "bricks", "park", "street", "studio"]

_KINDS: tuple[Kind, ...] = ("room", "bricks", "park", "street", "studio")
_MARGIN = 0.07
_SHIFT = 4


@dataclass(frozen=True)
class Background:
    """A still scene; the same at every size but for its finest detail.

    Args:
        kind: what it shows.
        seed: of its details.
        horizon: where the floor meets the wall, from the middle, in heights of the picture.
    """

    kind: Kind
    seed: int
    horizon: float

    @classmethod
    def sample(cls, rng: np.random.Generator) -> "Background":
        """Draw a scene."""
        return cls(
            kind=_KINDS[rng.integers(len(_KINDS))],
            seed=int(rng.integers(2**32)),
            horizon=float(rng.uniform(0.2, 0.34)),
        )

    def paint(self, height: int, width: int) -> Canvas:
        """Paint it with a margin on each side, for the camera to move over."""
        rng = np.random.default_rng(self.seed)
        size = [round(side * (1 + 2 * _MARGIN)) for side in (height, width)]
        board = _Board(size[0], size[1], float(height), rng)
        match self.kind:
            case "room":
                _room(board, self.horizon)
            case "bricks":
                _bricks(board, self.horizon)
            case "park":
                _park(board, self.horizon)
            case "street":
                _street(board, self.horizon)
            case "studio":
                _studio(board)
        return board.textured()


def see(picture: Canvas, view: View, frame: int, into: Canvas) -> None:
    """Draw what a frame's camera sees of a painted background into uint8 RGB (H, W, 3)."""
    import cv2

    middle = np.array([picture.shape[1], picture.shape[0]]) / 2 - 0.5
    turn = view.turn[frame]
    moved = turn[:, 0] * middle[0] + turn[:, 1] * middle[1]
    matrix = np.column_stack([turn, view.shift[frame] - 0.5 - moved])
    cv2.warpAffine(
        picture,
        matrix,
        (into.shape[1], into.shape[0]),
        dst=into,
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT,
    )


class _Board:
    """A canvas in units of the picture's height, (0, 0) in the middle, y down."""

    def __init__(self, height: int, width: int, unit: float, rng: np.random.Generator) -> None:
        self.canvas = np.zeros((height, width, 3), dtype=np.uint8)
        self.rng, self.unit = rng, unit
        self.right, self.bottom = width / unit / 2, height / unit / 2

    def fill(self, points: Sequence[tuple[float, float]] | Array, colour: Colour) -> None:
        import cv2

        middle = np.array([self.canvas.shape[1], self.canvas.shape[0]]) / 2 - 0.5
        pixels = np.asarray(points) * self.unit + middle
        fixed = np.rint(pixels * (1 << _SHIFT)).astype(np.int32)
        cv2.fillPoly(self.canvas, [fixed], colour, cv2.LINE_AA, _SHIFT)

    def box(self, x: float, y: float, x_end: float, y_end: float, colour: Colour) -> None:
        self.fill([(x, y), (x_end, y), (x_end, y_end), (x, y_end)], colour)

    def band(self, y: float, y_end: float, colour: Colour) -> None:
        self.box(-self.right - 0.1, y, self.right + 0.1, y_end, colour)

    def disc(self, x: float, y: float, wide: float, high: float, colour: Colour) -> None:
        turn = np.linspace(0, 2 * np.pi, 20, endpoint=False)
        self.fill(np.stack([x + wide * np.cos(turn), y + high * np.sin(turn)], axis=-1), colour)

    def fade(self, y: float, y_end: float, top: Colour, bottom: Colour) -> None:
        rows = (np.arange(len(self.canvas)) + 0.5 - len(self.canvas) / 2) / self.unit
        inside = (rows >= y) & (rows < y_end)
        share = ((rows[inside] - y) / (y_end - y))[:, None]
        first, last = np.array(top), np.array(bottom)
        self.canvas[inside] = np.rint(first + (last - first) * share)[:, None]

    def textured(self) -> Canvas:
        """Return the canvas under uneven light, rough and fine."""
        import cv2

        height, width = self.canvas.shape[:2]
        light = np.ones((height, width), dtype=np.float32)
        for cells, strength in ((3, 0.08), (12, 0.018), (64, 0.03)):
            grid = self.rng.normal(0, strength, (cells + 1, cells)).astype(np.float32)
            light += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
        lit = self.canvas * light[..., None]
        return np.asarray(np.clip(lit + 0.5, 0, 255).astype(np.uint8))


def _floor(board: _Board, horizon: float, colour: Colour, *, boards: bool) -> None:
    board.fade(horizon, board.bottom + 0.1, shade(colour, 0.8), shade(colour, 1.1))
    if not boards:
        return
    seam = shade(colour, 0.66)
    for step in range(-9, 10):
        x = step * 0.11
        foot = x * 2.4
        board.fill(
            [
                (x, horizon),
                (x + 0.003, horizon),
                (foot + 0.008, board.bottom),
                (foot, board.bottom),
            ],
            seam,
        )


def _room(board: _Board, horizon: float) -> None:
    rng, top = board.rng, -board.bottom - 0.1
    wall = random_colour(rng, (0.08, 0.4), (0.6, 0.95))
    board.fade(top, horizon, shade(wall, 1.06), shade(wall, 0.9))
    if rng.uniform() < 0.5:
        step = rng.uniform(0.06, 0.12)
        for x in np.arange(-board.right - 0.1, board.right + 0.1, step):
            board.box(x, top, x + 0.45 * step, horizon, shade(wall, 0.93))
    _floor(board, horizon, random_colour(rng, (0.25, 0.6), (0.35, 0.75), (0.04, 0.12)), boards=True)
    board.band(horizon - 0.025, horizon, shade(wall, 1.2))
    if rng.uniform() < 0.5:
        _window(board, float(rng.choice([-1, 1])) * rng.uniform(0.16, 0.26))
    for _ in range(rng.integers(1, 4)):
        x, y = rng.uniform(-0.4, 0.4), rng.uniform(-0.42, -0.1)
        wide, high = rng.uniform(0.05, 0.1), rng.uniform(0.05, 0.1)
        board.box(x - wide, y - high, x + wide, y + high, random_colour(rng, (0, 0.6), (0.15, 0.5)))
        inner = random_colour(rng, (0.2, 0.7), (0.5, 0.95))
        board.box(x - wide + 0.012, y - high + 0.012, x + wide - 0.012, y + high - 0.012, inner)
        board.disc(x, y, 0.4 * wide, 0.4 * high, random_colour(rng, (0.2, 0.8), (0.3, 0.9)))
    if rng.uniform() < 0.6:
        _plant(board, float(rng.choice([-1, 1])) * rng.uniform(0.28, 0.36), horizon + 0.06)


def _window(board: _Board, x: float) -> None:
    board.box(x - 0.13, -0.4, x + 0.13, -0.02, (240, 240, 236))
    for column in (-1, 1):
        for row in (-1, 1):
            left, up = x + 0.06 * column, -0.21 + 0.09 * row
            sky = (168, 206, 236) if row < 0 else (190, 216, 226)
            board.box(left - 0.053, up - 0.083, left + 0.053, up + 0.083, sky)


def _plant(board: _Board, x: float, ground: float) -> None:
    rng = board.rng
    leaf = random_colour(rng, (0.5, 0.8), (0.35, 0.65), (0.27, 0.4))
    for _ in range(9):
        turn, length = rng.uniform(-1.2, 1.2), rng.uniform(0.12, 0.24)
        tip = np.array([x + length * np.sin(turn), ground - 0.1 - length * np.cos(turn)])
        root = np.array([x, ground - 0.1])
        side = 0.022 * np.array([np.cos(turn), np.sin(turn)])
        middle = root + 0.55 * (tip - root)
        blade = np.stack([root, middle + side, tip, middle - side])
        board.fill(blade, shade(leaf, rng.uniform(0.75, 1.2)))
    pot = random_colour(rng, (0.2, 0.6), (0.35, 0.75))
    corners = [(-0.06, -0.11), (0.06, -0.11), (0.045, 0.0), (-0.045, 0.0)]
    board.fill([(x + dx, ground + dy) for dx, dy in corners], pot)


def _bricks(board: _Board, horizon: float) -> None:
    rng, high = board.rng, 0.042
    brick = random_colour(rng, (0.25, 0.6), (0.45, 0.75), (0.0, 0.1))
    board.band(-board.bottom - 0.1, horizon, shade(brick, 0.72))
    rows = int((horizon + board.bottom) / high) + 2
    for row in range(rows):
        y = horizon - (row + 1) * high
        for x in np.arange(-board.right - 0.1 + 0.05 * (row % 2), board.right + 0.1, 0.1):
            tone = shade(brick, rng.uniform(0.88, 1.12))
            board.box(x, y, x + 0.092, y + high - 0.007, tone)
    _floor(board, horizon, random_colour(rng, (0.0, 0.15), (0.4, 0.65)), boards=False)


def _park(board: _Board, horizon: float) -> None:
    rng, top = board.rng, -board.bottom - 0.1
    board.fade(top, horizon, (112, 168, 226), (214, 230, 240))
    for _ in range(4):
        x, y = rng.uniform(-0.45, 0.45), rng.uniform(-0.48, -0.2)
        for offset in (-0.05, 0.0, 0.05):
            board.disc(x + offset, y, 0.06, 0.022, (240, 244, 248))
    grass = random_colour(rng, (0.45, 0.7), (0.45, 0.7), (0.22, 0.36))
    for layer, tone in enumerate((0.8, 0.95)):
        along = np.linspace(-board.right - 0.1, board.right + 0.1, 24)
        ridge = horizon - 0.12 + 0.06 * layer + 0.04 * np.sin(5 * along + rng.uniform(0, 6))
        foot = np.full(2, horizon)
        hill = np.stack([np.r_[along, along[[-1, 0]]], np.r_[ridge, foot]], axis=-1)
        board.fill(hill, shade(grass, tone * 0.9))
    for x in rng.uniform(-0.5, 0.5, rng.integers(2, 5)):
        size = rng.uniform(0.07, 0.12)
        board.box(x - 0.013, horizon - 0.2, x + 0.013, horizon + 0.01, (96, 70, 48))
        for _ in range(6):
            dx, dy = rng.uniform(-size, size, 2)
            leaf = shade(grass, rng.uniform(0.55, 0.85))
            board.disc(x + dx, horizon - 0.24 + dy, 0.7 * size, 0.6 * size, leaf)
    board.fade(horizon, board.bottom + 0.1, shade(grass, 0.95), shade(grass, 1.15))
    path = random_colour(rng, (0.1, 0.3), (0.6, 0.8), (0.07, 0.12))
    board.disc(0.0, board.bottom, 0.42, board.bottom - horizon - 0.05, path)


def _street(board: _Board, horizon: float) -> None:
    rng = board.rng
    board.fade(-board.bottom - 0.1, horizon, (170, 196, 222), (226, 228, 226))
    x = -board.right - 0.1
    while x < board.right:
        wide, high = rng.uniform(0.16, 0.3), rng.uniform(0.5, 0.75)
        house = random_colour(rng, (0.1, 0.45), (0.45, 0.85))
        board.box(x, horizon - high, x + wide, horizon, house)
        glass = random_colour(rng, (0.1, 0.4), (0.25, 0.85), (0.5, 0.62))
        for up in np.arange(0.08, high - 0.05, 0.1):
            for along in np.arange(0.03, wide - 0.045, 0.065):
                pane = shade(glass, rng.uniform(0.85, 1.15))
                y = horizon - up
                board.box(x + along, y - 0.055, x + along + 0.038, y, pane)
        x += wide
    road = random_colour(rng, (0.0, 0.12), (0.4, 0.7))
    board.band(horizon - 0.012, horizon + 0.01, shade(road, 1.25))
    _floor(board, horizon + 0.01, road, boards=bool(rng.uniform() < 0.6))


def _studio(board: _Board) -> None:
    rng = board.rng
    paper = random_colour(rng, (0.05, 0.5), (0.5, 0.95))
    board.fade(-board.bottom - 0.1, 0.3, shade(paper, 0.75), shade(paper, 1.0))
    board.fade(0.3, board.bottom + 0.1, shade(paper, 1.0), shade(paper, 0.85))
    for size in (0.5, 0.4, 0.3):
        board.disc(0.0, -0.05, 0.75 * size, size, shade(paper, 1.18 - 0.3 * size))
