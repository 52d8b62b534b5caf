"""`PoseSequence`: key points of one person over the frames of a video, and its file."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from unianimate.files import expect_file

MISSING = -1.0

# indices into the 20 body points; right and left are the person's own
NOSE, NECK = 0, 1
RIGHT_SHOULDER, RIGHT_ELBOW, RIGHT_WRIST = 2, 3, 4
LEFT_SHOULDER, LEFT_ELBOW, LEFT_WRIST = 5, 6, 7
RIGHT_HIP, RIGHT_KNEE, RIGHT_ANKLE = 8, 9, 10
LEFT_HIP, LEFT_KNEE, LEFT_ANKLE = 11, 12, 13
RIGHT_EYE, LEFT_EYE, RIGHT_EAR, LEFT_EAR = 14, 15, 16, 17
LEFT_TOE, RIGHT_TOE = 18, 19

# a million frames have that much
_MAX_BYTES = 4 << 30

_SHAPES = {"bodies": (20, 2), "visible": (20,), "hands": (2, 21, 2), "faces": (68, 2)}


@dataclass(frozen=True)
class PoseSequence:
    """Key points of one person over F frames.

    Coordinates are x / width and y / height in float64; a missing point is (-1, -1). Aligned
    points may lie outside [0, 1], and a point may have coordinates and be invisible.

    Args:
        bodies: (F, 20, 2): OpenPose's 18 points, then left and right toe.
        visible: (F, 20) bool, which body points are drawn.
        hands: (F, 2, 21, 2): left hand, right hand.
        faces: (F, 68, 2).
        width: of the picture the points were found in, in pixels.
        height: likewise.
        fps: frames a second; 0 for a photo.
        scores: (F, 20) confidence of the body points, or None.

    Raises:
        ValueError: wrong shapes, no frames, NaN or infinite coordinates, or a size below 1.
    """

    bodies: NDArray[np.float64]
    visible: NDArray[np.bool_]
    hands: NDArray[np.float64]
    faces: NDArray[np.float64]
    width: int
    height: int
    fps: float = 0.0
    scores: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        """Bring the arrays to their dtypes and check them."""
        for name in ("bodies", "hands", "faces"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.float64))
        object.__setattr__(self, "visible", np.asarray(self.visible, dtype=bool))
        if self.scores is not None:
            object.__setattr__(self, "scores", np.asarray(self.scores, dtype=np.float64))
        object.__setattr__(self, "width", int(self.width))
        object.__setattr__(self, "height", int(self.height))
        object.__setattr__(self, "fps", float(self.fps))
        frames = self.bodies.shape[0] if self.bodies.ndim else 0
        if frames == 0:
            raise ValueError("PoseSequence: there are no frames; give at least one")
        for name, shape in _SHAPES.items():
            self._expect_shape(name, getattr(self, name), (frames, *shape))
        if self.scores is not None:
            self._expect_shape("scores", self.scores, (frames, 20))
        for name in ("bodies", "hands", "faces"):
            if not np.isfinite(getattr(self, name)).all():
                raise ValueError(f"PoseSequence: {name} has NaN or infinite coordinates")
        if self.width < 1 or self.height < 1:
            raise ValueError(
                f"PoseSequence: width and height must be pixels, got {self.width} x {self.height}"
            )
        if not (np.isfinite(self.fps) and self.fps >= 0):
            raise ValueError(f"PoseSequence: fps must be 0 or more, got {self.fps}")

    @staticmethod
    def _expect_shape(name: str, array: NDArray[np.generic], shape: tuple[int, ...]) -> None:
        if array.shape != shape:
            raise ValueError(f"PoseSequence: {name} must have shape {shape}, got {array.shape}")

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.bodies)

    def __getitem__(self, frames: slice) -> "PoseSequence":
        """Return some of the frames, as ``poses[10:20]`` or ``poses[::2]``."""
        if not isinstance(frames, slice):
            raise TypeError("PoseSequence: index with a slice, as in poses[3:4]")
        step = abs(frames.step or 1)
        return PoseSequence(
            bodies=self.bodies[frames],
            visible=self.visible[frames],
            hands=self.hands[frames],
            faces=self.faces[frames],
            width=self.width,
            height=self.height,
            fps=self.fps / step,
            scores=None if self.scores is None else self.scores[frames],
        )

    def save(self, path: str | Path) -> None:
        """Write an ``.npz``; it appears only when it is complete.

        Raises:
            OSError: it cannot be written there.
        """
        path = Path(path)
        try:
            self._write(path)
        except OSError as error:
            # it names the unfinished file, or none
            if error.errno is None:
                raise
            raise OSError(error.errno, error.strerror, str(path)) from error

    def _write(self, path: Path) -> None:
        arrays = {name: getattr(self, name) for name in (*_SHAPES, "width", "height", "fps")}
        if self.scores is not None:
            arrays["score"] = self.scores
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            with partial.open("wb") as file:
                np.savez_compressed(file, **arrays)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | Path) -> "PoseSequence":
        """Read an ``.npz``; never unpickles.

        Raises:
            ValueError: not such a file, with the path and what is wrong.
            OSError: the file cannot be read.
        """
        expect_file(path)
        try:
            # opened here, because numpy leaves a broken file open
            with Path(path).open("rb") as file:
                arrays = _read_arrays(file)
        except OSError:
            raise
        except Exception as error:  # damage shows as errors of zipfile, zlib, tokenize and more
            raise ValueError(f"{path}: not a pose file (.npz): {error}") from error
        wanted = (*_SHAPES, "width", "height")
        missing = [name for name in wanted if name not in arrays]
        if missing:
            raise ValueError(f"{path}: not a pose file: it lacks {', '.join(missing)}")
        try:
            return cls(
                **{name: arrays[name] for name in wanted},
                fps=float(arrays.get("fps", 0.0)),
                scores=arrays.get("score"),
            )
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: {error}") from error


def _read_arrays(file: BinaryIO) -> dict[str, Any]:
    stored = np.load(file, allow_pickle=False)
    if isinstance(stored, np.ndarray):
        raise ValueError("it holds one array")
    size = sum(member.file_size for member in stored.zip.infolist())
    if size > _MAX_BYTES:
        raise ValueError(f"unpacked it has {size:,} bytes, at most {_MAX_BYTES:,} are taken")
    return {name: stored[name] for name in stored.files}
