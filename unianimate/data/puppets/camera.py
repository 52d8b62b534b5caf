"""The camera: level, looking slightly down, and never quite still."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# a puppet is placed for pictures of this width over height; others show more on two sides
_ASPECT = 0.75


@dataclass(frozen=True)
class View:
    """How F frames see the world, in pixels of one picture size.

    Args:
        turn: (F, 2, 2) zoom and roll. shift: (F, 2) where the middle of the scene lies.
        stature: height of the body over height of the scene.
        place: (2,) the origin of the world, from the middle of the scene, in scenes.
        tilt: sine and cosine of the camera's look down.
        scene: pixels in the height of the scene.
    """

    turn: Array
    shift: Array
    stature: float
    place: Array
    tilt: Array
    scene: float

    @property
    def unit(self) -> float:
        """Pixels in a height of the body, without the zoom."""
        return self.scene * self.stature

    @property
    def scale(self) -> Array:
        """Pixels in a height of the body in every frame (F,)."""
        return np.asarray(self.unit * np.sqrt(np.abs(_determinant(self.turn))))

    def project(self, points: Array) -> Array:
        """Return pixels (F, ..., 2) of world points (F, ..., 3), seen without perspective."""
        sin, cos = self.tilt
        flat = self.stature * np.stack(
            [points[..., 0], cos * points[..., 1] + sin * points[..., 2]], axis=-1
        )
        flat = self.scene * (flat + self.place)
        middle = (1,) * (points.ndim - 2)
        turn = self.turn.reshape(-1, *middle, 2, 2)
        turned = turn[..., 0] * flat[..., :1] + turn[..., 1] * flat[..., 1:]
        return np.asarray(turned + self.shift.reshape(-1, *middle, 2))


def _determinant(turn: Array) -> Array:
    return np.asarray(turn[:, 0, 0] * turn[:, 1, 1] - turn[:, 0, 1] * turn[:, 1, 0])


@dataclass(frozen=True)
class Camera:
    """Where the person stands in the picture, and how the camera drifts.

    Args:
        stature: height of the body over height of the scene.
        place: of the ground under the person, from the middle of the scene.
        look_down: in radians.
        drift: amplitudes of pan right, pan down, zoom and roll.
        rate: their frequencies in hertz.
        phase: their phases.
    """

    stature: float
    place: Array
    look_down: float
    drift: Array
    rate: Array
    phase: Array

    @classmethod
    def sample(cls, rng: np.random.Generator) -> "Camera":
        """Draw a camera that keeps the person in the picture."""
        return cls(
            stature=float(rng.uniform(0.66, 0.76)),
            place=np.array([rng.uniform(-0.03, 0.03), rng.uniform(0.425, 0.45)]),
            look_down=float(rng.uniform(0.1, 0.22)),
            drift=rng.uniform(0.2, 1, 4) * np.array([0.012, 0.008, 0.018, 0.012]),
            rate=rng.uniform(0.08, 0.25, 4),
            phase=rng.uniform(0, 2 * np.pi, 4),
        )

    def at(self, seconds: Array, height: int, width: int) -> View:
        """Return the view of these moments (F,) in a picture of this size."""
        scene = min(float(height), width / _ASPECT)
        wave = np.sin(2 * np.pi * self.rate * seconds[:, None] + self.phase)
        right, down, zoom, roll = (self.drift * wave).T
        cos, sin = (1 + zoom) * np.cos(roll), (1 + zoom) * np.sin(roll)
        turn = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], axis=1)
        shift = np.stack([width / 2 + scene * right, height / 2 + scene * down], axis=-1)
        tilt = np.array([np.sin(self.look_down), np.cos(self.look_down)])
        return View(turn, shift, self.stature, self.place, tilt, scene)
