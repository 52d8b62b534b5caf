"""Videos drawn or decoded once, kept on disk at the model's size, and read at random."""

import itertools
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from torch import Tensor

from unianimate.data.clips import BrokenVideoError, Pictures, VideoSet
from unianimate.pipelines.folder_lock import hold, release

Progress = Callable[[int, int], None]

_log = logging.getLogger(__name__)

_INDEX, _FRAMES, _POSES = "index.json", "frames.npy", "poses.npy"
# frames of a video that are read at once: a whole one may take gigabytes
_PIECE = 64


class VideoCache:
    """A `VideoSet` in memory-mapped files, with the latents of every frame once they are added.

    Args:
        folder: where `write` put it.
        key: names the autoencoder whose latents are wanted; they may be there already.

    Attributes:
        lengths: frames of each video.
        source: what `write` was told of the videos; empty if nothing.

    Raises:
        FileNotFoundError: there is no complete cache in the folder.
    """

    def __init__(self, folder: str | Path, key: str = "") -> None:
        self.folder, self.key = Path(folder), key
        if not (self.folder / _INDEX).is_file():
            raise FileNotFoundError(f"{self.folder}: there is no cache of videos here")
        index = json.loads((self.folder / _INDEX).read_text())
        self.lengths: list[int] = index["lengths"]
        self.source: dict[str, Any] = index.get("source", {})
        self._starts = np.concatenate([[0], np.cumsum(self.lengths)])
        self._frames: Pictures = np.load(self.folder / _FRAMES, mmap_mode="r")
        self._poses: Pictures = np.load(self.folder / _POSES, mmap_mode="r")
        self._latents: NDArray[np.float16] | None = None
        if self._latents_path.is_file():
            self._latents = np.load(self._latents_path, mmap_mode="r")

    def __reduce__(self) -> tuple[type["VideoCache"], tuple[Path, str]]:
        """Let processes open the files anew; a memory map would be sent as what it holds."""
        return VideoCache, (self.folder, self.key)

    def __len__(self) -> int:
        """How many videos there are."""
        return len(self.lengths)

    def num_frames(self, index: int) -> int:
        """Return how many frames a video has."""
        return self.lengths[index]

    def read(self, index: int, frames: Sequence[int]) -> tuple[Pictures, Pictures]:
        """Return frames and poses, each uint8 (n, H, W, 3)."""
        rows = self._rows(index, frames)
        return self._frames[rows], self._poses[rows]

    @property
    def has_latents(self) -> bool:
        """Whether `add_latents` was here."""
        return self._latents is not None

    def latents(self, index: int, frames: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return means and standard deviations of the posterior, float32 (n, C, h, w), scaled."""
        if self._latents is None:
            raise FileNotFoundError(f"{self.folder}: has no latents yet")
        moments = torch.from_numpy(self._latents[self._rows(index, frames)]).float()
        mean, std = moments.chunk(2, dim=1)
        return mean, std

    def all_frames(self, size: int) -> Iterator[Pictures]:
        """Yield every frame, up to `size` at a time."""
        total = int(self._starts[-1])
        for start in range(0, total, size):
            yield self._frames[start : min(start + size, total)]

    def add_latents(self, moments: Iterator[Tensor]) -> None:
        """Store the moments of the posterior of `all_frames`, in that order: (n, 2 C, h, w).

        Raises:
            ValueError: they are not as many as the frames.
            BlockingIOError: another process is storing some.
        """
        path, stored, done, total = self._latents_path, None, 0, int(self._starts[-1])
        unfinished = path.with_suffix(".unfinished")
        hold(self.folder)
        try:
            for part in moments:
                if stored is None:
                    shape = (total, *part.shape[1:])
                    stored = open_memmap(unfinished, mode="w+", dtype=np.float16, shape=shape)
                stored[done : done + len(part)] = part.half().cpu().numpy()
                done += len(part)
            if stored is None or done != total:
                raise ValueError(f"{path}: wanted latents of {total} frames, got {done}")
            stored.flush()
            os.replace(unfinished, path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
        finally:
            release(self.folder)
        self._latents = np.load(path, mmap_mode="r")

    @classmethod
    def write(
        cls,
        videos: VideoSet,
        folder: str | Path,
        *,
        workers: int = 0,
        progress: Progress | None = None,
        source: dict[str, Any] | None = None,
    ) -> "VideoCache":
        """Read all videos once; those that are broken are named in a warning and left out.

        The folder appears when it is complete.

        Args:
            videos: what to read; must be picklable if there are workers.
            folder: where to put them.
            workers: processes that read; 0 reads in this one.
            progress: called with the videos done and the videos in all.
            source: plain data that says which videos these are.

        Raises:
            FileExistsError: the folder is there already.
            BlockingIOError: another process is writing it.
            ValueError: no video can be read.
        """
        folder = Path(folder)
        if folder.exists():
            raise FileExistsError(f"{folder}: is there already; remove it, or use it as it is")
        lengths = {i: n for i in range(len(videos)) if (n := _length(videos, i))}
        unfinished = folder.with_name(f".{folder.name}.unfinished")
        unfinished.mkdir(parents=True, exist_ok=True)
        hold(unfinished)
        try:
            for left in unfinished.iterdir():
                left.unlink()
            kept = _write_pictures(videos, lengths, unfinished, workers, progress)
            index = {"lengths": kept, "source": source or {}}
            (unfinished / _INDEX).write_text(json.dumps(index) + "\n")
            unfinished.rename(folder)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        finally:
            release(unfinished)
        return cls(folder)

    @property
    def _latents_path(self) -> Path:
        return self.folder / f"latents-{self.key}.npy"

    def _rows(self, index: int, frames: Sequence[int]) -> NDArray[np.int64]:
        rows: NDArray[np.int64] = self._starts[index] + np.asarray(frames, dtype=np.int64)
        return rows


def _write_pictures(
    videos: VideoSet,
    lengths: dict[int, int],
    folder: Path,
    workers: int,
    progress: Progress | None,
) -> list[int]:
    """Write frames and poses of the videos that can be read; return the lengths of these."""
    pieces = [
        (index, range(length)[start : start + _PIECE])
        for index, length in lengths.items()
        for start in range(0, length, _PIECE)
    ]
    stores: list[np.memmap[Any, np.dtype[np.uint8]]] = []
    kept: dict[int, int] = {}
    broken: set[int] = set()
    end = done = 0
    for (index, frames), pictures in zip(pieces, _read_all(videos, pieces, workers), strict=True):
        if index in broken:
            pass
        elif isinstance(pictures, str):
            _log.warning("skipped: %s", pictures)
            broken.add(index)
            end -= kept.pop(index, 0)  # the next video is written over what there is of it
        else:
            if not stores:
                shape = (sum(lengths.values()), *pictures[0].shape[1:])
                stores = [
                    open_memmap(folder / name, mode="w+", dtype=np.uint8, shape=shape)
                    for name in (_FRAMES, _POSES)
                ]
            for store, part in zip(stores, pictures):
                store[end : end + len(part)] = part
            end += len(frames)
            kept[index] = frames.stop
        if frames.stop == lengths[index]:
            done += 1
            if progress is not None:
                progress(done, len(lengths))
    if not kept:
        raise ValueError(f"none of the {len(videos)} videos can be read")
    for store in stores:
        store.flush()
    return list(kept.values())


def _read_all(
    videos: VideoSet, pieces: Sequence[tuple[int, range]], workers: int
) -> Iterator[tuple[Pictures, Pictures] | str]:
    read = partial(_read_piece, videos)
    if not workers:
        yield from itertools.starmap(read, pieces)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(read, *zip(*pieces))


def _read_piece(videos: VideoSet, index: int, frames: range) -> tuple[Pictures, Pictures] | str:
    """Return frames of a video and their poses, or what is wrong with it."""
    try:
        return videos.read(index, frames)
    except BrokenVideoError as error:
        return str(error)


def _length(videos: VideoSet, index: int) -> int:
    try:
        return videos.num_frames(index)
    except BrokenVideoError as error:
        _log.warning("skipped: %s", error)
        return 0
