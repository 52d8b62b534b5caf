"""Folders of pose pictures in the official layout: ``ref_pose.jpg`` and one file a frame."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from unianimate.files import expect_file

from .draw import draw_pose
from .listing import list_pictures
from .sequence import PoseSequence

REFERENCE_NAME = "ref_pose.jpg"
_QUALITY = 95


@dataclass(frozen=True)
class PosePictures:
    """Drawn poses on disk, read one at a time: already aligned, and with the reference's pose.

    Args:
        reference: the picture of the reference's pose.
        frames: the pictures of the driving poses, in order.
    """

    reference: Path
    frames: tuple[Path, ...]

    @classmethod
    def open(cls, folder: str | Path) -> "PosePictures":
        """List a folder: ``ref_pose.jpg``, and every other picture is a frame, as `list_pictures`.

        Raises:
            ValueError: no folder of pose pictures, with what is missing.
            OSError: the folder cannot be read.
        """
        folder = Path(folder)
        reference = folder / REFERENCE_NAME
        frames = tuple(path for path in list_pictures(folder) if path != reference)
        if not reference.is_file():
            raise ValueError(
                f"{folder}: there is no {REFERENCE_NAME} in it; a pose folder has {REFERENCE_NAME} "
                f"and one picture a frame, as `unianimate pose draw` writes it"
            )
        if not frames:
            raise ValueError(f"{folder}: there are no pose pictures beside {REFERENCE_NAME}")
        return cls(reference, frames)

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.frames)

    def read_reference(self) -> NDArray[np.uint8]:
        """Return the reference's pose, uint8 RGB (H, W, 3)."""
        return np.asarray(open_pose_picture(self.reference))

    def read_one(self, frame: int) -> NDArray[np.uint8]:
        """Return the driving pose of one frame, uint8 RGB (H, W, 3)."""
        return np.asarray(open_pose_picture(self.frames[frame]))

    def read(self) -> Iterator[NDArray[np.uint8]]:
        """Yield the driving poses, uint8 RGB (H, W, 3)."""
        return map(self.read_one, range(len(self)))


def write_pose_pictures(
    folder: str | Path,
    pose: PoseSequence,
    reference: PoseSequence,
    *,
    height: int = 768,
    width: int = 512,
) -> PosePictures:
    """Draw an aligned pose and the reference's into a new folder in the official layout.

    The folder appears only when it is complete.

    Args:
        folder: must not exist, or be empty.
        pose: F aligned frames, written as ``0000.jpg``, ``0001.jpg``, ...
        reference: its first frame becomes ``ref_pose.jpg``.
        height: of the pictures, in pixels.
        width: likewise.

    Raises:
        FileExistsError: the folder exists and is not empty.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder}: this exists and is not empty; name another folder")
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
        _write(partial / REFERENCE_NAME, draw_pose(reference[:1], height, width)[0])
        for index in range(len(pose)):
            picture = draw_pose(pose[index : index + 1], height, width)[0]
            _write(partial / f"{index:04d}.jpg", picture)
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return PosePictures.open(folder)


def _write(path: Path, picture: NDArray[np.uint8]) -> None:
    Image.fromarray(picture).save(path, quality=_QUALITY)


def open_pose_picture(path: Path) -> Image.Image:
    """Open one pose picture as 8-bit RGB; what is transparent is black, as around drawn poses.

    Raises:
        ValueError: not a picture, or damaged.
        OSError: the file cannot be read.
    """
    expect_file(path)
    try:
        with Image.open(path) as picture:
            if picture.format == "EPS":  # a program, which Pillow hands to Ghostscript
                raise UnidentifiedImageError
            if not picture.has_transparency_data:
                return picture.convert("RGB")
            black = Image.new("RGBA", picture.size, (0, 0, 0, 255))
            return Image.alpha_composite(black, picture.convert("RGBA")).convert("RGB")
    except UnidentifiedImageError:
        raise ValueError(f"{path}: this is not a picture that can be read") from None
    except Image.DecompressionBombError:
        raise ValueError(f"{path}: the picture has too many pixels: scale it down") from None
    except Exception as error:  # Pillow raises many kinds for damaged files
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ValueError(f"{path}: the picture is damaged: {error}") from error
