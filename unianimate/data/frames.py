"""Any frames of a video, in any order: of a video file, or of a folder of pictures."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from PIL import Image

from unianimate.pose.listing import list_pictures

from .pictures import open_picture
from .video import open_container, read_video, upright_frame

VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi", ".gif"})
# these containers say when each frame is shown; others (AVI, bare streams) leave it to be guessed
_TIMED = ("mov,mp4", "matroska,webm", "mpegts")


Fit = Callable[[Image.Image], Image.Image]


class FrameReader(Protocol):
    """The frames of one video by their numbers; made by `open_frames`."""

    def __len__(self) -> int:
        """How many frames there are."""
        ...

    def read(self, numbers: Sequence[int], fit: Fit | None = None) -> list[Image.Image]:
        """Return frames, upright and RGB, in the order asked.

        Args:
            numbers: of the frames.
            fit: done to each frame as it is decoded, so that only its results are kept in memory.

        Raises:
            IndexError: there is no such frame.
            ValueError: the video is damaged there.
            OSError: it cannot be read.
        """
        ...

    def close(self) -> None:
        """Close the file."""
        ...


def open_frames(path: str | Path) -> FrameReader:
    """Open a video file, or a folder of pictures as a video.

    Raises:
        ValueError: not a video, damaged, or without frames.
        OSError: it cannot be read.
    """
    path = Path(path)
    return PictureFrames(path) if path.is_dir() else VideoFrames(path)


class PictureFrames:
    """A folder of pictures, one a frame.

    Args:
        folder: where they are.
        leave_out: name of a picture that is no frame.
        open_frame: reads a picture as RGB.

    Raises:
        ValueError: there are none.
        OSError: the folder cannot be read.
    """

    def __init__(
        self,
        folder: Path,
        leave_out: str | None = None,
        open_frame: Callable[[Path], Image.Image] = open_picture,
    ) -> None:
        self._open = open_frame
        self._pictures = [path for path in list_pictures(folder) if path.name != leave_out]
        if not self._pictures:
            raise ValueError(f"{folder}: there are no pictures in this folder")

    def __len__(self) -> int:
        """How many frames there are."""
        return len(self._pictures)

    def read(self, numbers: Sequence[int], fit: Fit | None = None) -> list[Image.Image]:
        """Return frames in the order asked."""
        opened = (self._open(self._pictures[number]) for number in numbers)
        return [fit(picture) if fit else picture for picture in opened]

    def close(self) -> None:
        """Do nothing: pictures are opened one by one."""


def _is_hidden(packet: Any) -> bool:
    """Return whether a packet is a frame of VP8 that only others refer to (RFC 6386, 9.1)."""
    return packet.stream.codec_context.name == "vp8" and not bytes(packet)[0] & 0x10


class _Index(NamedTuple):
    """Where the frames of a video are, in units of its time base."""

    times: list[int]  # of all frames, as they are shown
    keys: list[tuple[int, int]]  # of key frames: when they are shown, and where to seek to


class VideoFrames:
    """A video file: seeks to the key frame before a frame and decodes from there.

    The numbers are those of decoding all of it (`read_video`): frames are told apart by the times
    in the file, not by the frame rate. Where these times cannot be trusted, every read decodes
    from the start.

    Args:
        path: anything FFmpeg reads.

    Raises:
        ValueError: not a video, damaged, or without frames.
        OSError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._container = open_container(path)
        try:
            self._stream = self._container.streams.video[0]
            # one thread: readers run side by side, and threads would not survive a fork
            self._stream.codec_context.thread_count = 1
            self._index = self._find_frames()
            self._length = len(self._index.times) if self._index else self._count()
            if not self._length:
                raise ValueError(f"{path}: the video has no frames")
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        """How many frames there are."""
        return self._length

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def read(self, numbers: Sequence[int], fit: Fit | None = None) -> list[Image.Image]:
        """Return frames in the order asked; a frame asked twice is decoded once."""
        fit = fit or (lambda frame: frame)
        wanted = sorted({range(self._length)[number] for number in numbers})
        decoded = self._seek(wanted, self._index, fit) if self._index else {}
        if len(decoded) < len(wanted):
            decoded = self._decode_all(wanted, fit)
        return [decoded[range(self._length)[number]] for number in numbers]

    def _find_frames(self) -> _Index | None:
        """Read the times of all packets, without decoding; None where they cannot be trusted."""
        import av

        if not self._container.format.name.startswith(_TIMED):
            return None
        times, keys = [], []
        try:
            for packet in self._container.demux(self._stream):
                if packet.is_corrupt:
                    raise ValueError(f"{self._path}: damaged: it ends within a frame")
                # an empty packet ends the stream; discarded ones are decoded and not shown
                if packet.size == 0 or packet.is_discard or _is_hidden(packet):
                    continue
                if packet.pts is None:
                    return None
                times.append(packet.pts)
                if packet.is_keyframe:
                    keys.append((packet.pts, packet.pts if packet.dts is None else packet.dts))
        except av.FFmpegError as error:
            raise ValueError(
                f"{self._path}: damaged after {len(times)} frames: {error.strerror}"
            ) from None
        return _Index(sorted(times), sorted(keys)) if len(set(times)) == len(times) else None

    def _seek(self, wanted: list[int], index: _Index, fit: Fit) -> dict[int, Image.Image]:
        """Return those of the wanted frames that are found by their times."""
        import av

        found: dict[int, Image.Image] = {}
        try:
            for start, numbers in self._runs(wanted, index).items():
                self._container.seek(start, stream=self._stream, backward=True)
                missing = {index.times[number]: number for number in numbers}
                for frame in self._container.decode(self._stream):
                    number = missing.pop(frame.pts, None)
                    if number is not None:
                        found[number] = fit(Image.fromarray(upright_frame(frame)))
                    if not missing:
                        break
        except av.FFmpegError as error:
            raise ValueError(
                f"{self._path}: damaged about frame {wanted[len(found)]}: {error.strerror}"
            ) from None
        return found

    @staticmethod
    def _runs(wanted: list[int], index: _Index) -> dict[int, list[int]]:
        """Group frames by where to seek to."""
        key_times = [time for time, _ in index.keys]
        runs: dict[int, list[int]] = {}
        for number in wanted:
            # frames shown before a key frame and decoded after it may need the one before
            key = int(np.searchsorted(key_times, index.times[number], side="right")) - 1
            start = index.keys[key][1] if key >= 0 else index.times[0]
            runs.setdefault(start, []).append(number)
        return runs

    def _count(self) -> int:
        return sum(1 for _ in read_video(self._path))

    def _decode_all(self, wanted: list[int], fit: Fit) -> dict[int, Image.Image]:
        numbers = set(wanted)
        found = {
            number: fit(Image.fromarray(frame))
            for number, frame in enumerate(read_video(self._path))
            if number in numbers
        }
        if len(found) < len(numbers):
            raise ValueError(f"{self._path}: damaged: frame {min(numbers - found.keys())} is gone")
        return found
