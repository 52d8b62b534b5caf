"""Videos in and out through PyAV, frame by frame at constant memory."""

import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unianimate.files import expect_file, expect_writable

from .sound import add_sound, expect_sound

Frame = NDArray[np.uint8]

_CODECS = {
    ".mp4": ("libx264", {"crf": "18", "preset": "medium"}),
    ".webm": ("libvpx-vp9", {"crf": "24", "b": "0"}),
}
# the same pictures make the same bytes: no dates or random numbers in the file
_CONTAINER = {"fflags": "+bitexact"}
_CONTAINERS = {".mp4": {**_CONTAINER, "movflags": "faststart"}}
_LEAST_FPS = 0.01
_GIF_FPS = 100  # its delays are in hundredths of a second
# ITU-T H.273 code points: BT.709 matrix, primaries and transfer, limited ("video") range
_BT709, _LIMITED = 1, 1


@dataclass(frozen=True)
class VideoInfo:
    """What a video says of itself; width and height are upright, after rotation."""

    width: int
    height: int
    fps: float
    num_frames: int | None
    has_audio: bool


def probe_video(path: str | Path) -> VideoInfo:
    """Read the header of a video; ``num_frames`` is None where it is not written there.

    Raises:
        ValueError: not a video, damaged, or without pictures.
        OSError: the file cannot be read.
    """
    import av

    with open_container(path) as container:
        stream = container.streams.video[0]
        try:
            first = next(container.decode(stream), None)
        except av.FFmpegError as error:
            raise ValueError(f"{path}: damaged at its start: {error.strerror}") from None
        if first is None:
            raise ValueError(f"{path}: the video has no frames")
        upright = upright_frame(first)
        rate = stream.average_rate or stream.guessed_rate
        return VideoInfo(
            width=upright.shape[1],
            height=upright.shape[0],
            fps=float(rate) if rate else 0.0,
            num_frames=stream.frames or None,
            has_audio=bool(container.streams.audio),
        )


def read_video(path: str | Path, *, every: int = 1) -> Iterator[Frame]:
    """Yield the frames as upright uint8 RGB (H, W, 3), one in memory at a time.

    Args:
        path: anything FFmpeg reads.
        every: yield each ``every``-th frame, from the first on.

    Raises:
        ValueError: not a video, damaged, without frames, or ``every`` below 1.
        OSError: the file cannot be read.
    """
    import av

    if every < 1:
        raise ValueError(f"read_video: every must be at least 1, got {every}")
    count = 0
    with open_container(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        try:
            for frame in container.decode(stream):
                if count % every == 0:
                    yield upright_frame(frame)
                count += 1
        except av.FFmpegError as error:
            raise ValueError(f"{path}: damaged after {count} frames: {error.strerror}") from None
    if count == 0:
        raise ValueError(f"{path}: the video has no frames")


def open_container(path: str | Path) -> Any:
    """Open a video for reading: PyAV's container, which has a stream of pictures.

    Raises:
        ValueError: not a video, or one without pictures.
        OSError: the file cannot be read.
    """
    import av

    expect_file(path)
    try:
        # without the protocol, a name with a colon would be taken for an address; and a title in
        # another encoding is no reason to refuse the pictures
        container = av.open(f"file:{path}", metadata_errors="replace")
    except av.FFmpegError:
        raise ValueError(f"{path}: this is not a video that can be read") from None
    if not container.streams.video or container.streams.video[0].codec_context is None:
        container.close()
        raise ValueError(f"{path}: there are no pictures in it that can be decoded")
    return container


def upright_frame(frame: Any) -> Frame:
    """Return a decoded frame as RGB, turned as the video says it must be shown."""
    rgb = frame.to_ndarray(format="rgb24")
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(rgb, turns)) if turns else rgb


class VideoWriter:
    """Write uint8 RGB frames; the file appears under its name only when all is written.

    ``.mp4`` (H.264, yuv420p, BT.709, faststart), ``.webm`` (VP9), ``.gif``, or, for a path without
    a suffix, a folder of PNGs ``00000.png``. Odd sizes lose a row or column of the colour planes:
    the last one is repeated to make them even. Use as a context manager; an exception inside
    leaves nothing behind.

    Args:
        path: the result.
        fps: frames a second.
        audio_from: a video whose sound is taken over, cut to the length of the pictures; mp4 and
            webm.
        scratch: where the unfinished file is, on the same file system; None is beside the result.

    Raises:
        ValueError: an unknown suffix, fps below 0.01, frames that change size, no frames, or a
            video for the sound that has none.
        FileExistsError: the folder exists and is not empty.
        OSError: there is no folder to write to.
    """

    def __init__(
        self,
        path: str | Path,
        fps: float,
        *,
        audio_from: str | Path | None = None,
        scratch: Path | None = None,
    ) -> None:
        self._path = Path(path)
        self._suffix = self._path.suffix.lower()
        if self._suffix not in (*_CODECS, ".gif", ""):
            raise ValueError(
                f"{path}: cannot write {self._suffix!r}; use .mp4, .webm, .gif or a folder"
            )
        if not 0 < fps < math.inf:
            raise ValueError(f"{path}: fps must be positive, got {fps}")
        if fps < _LEAST_FPS:
            raise ValueError(f"{path}: fps must be at least {_LEAST_FPS}, got {fps}")
        if self._suffix == ".gif" and fps > _GIF_FPS:
            raise ValueError(
                f"{path}: a GIF has at most {_GIF_FPS} frames a second, got {fps:g}; ask for fewer "
                f"by --fps or --every, or for an .mp4"
            )
        if audio_from is not None and self._suffix not in _CODECS:
            raise ValueError(f"{path}: only .mp4 and .webm can carry sound")
        if self._path.is_dir():
            if self._suffix or any(self._path.iterdir()):
                raise FileExistsError(f"{path}: this folder exists; name another or remove it")
        elif self._path.exists() and not (self._suffix and self._path.is_file()):
            raise FileExistsError(f"{path}: this exists and is no folder; name another")
        expect_writable(self._path)
        if audio_from is not None:
            with open_container(audio_from) as sound:
                expect_sound(sound, audio_from)
        self._fps = Fraction(fps).limit_denominator(60000)
        self._audio_from = audio_from
        name = f".{self._path.stem}.{os.getpid()}.partial{self._suffix}"
        self._partial = (scratch or self._path.parent) / name
        self._container: Any = None
        self._stream: Any = None
        self._size: tuple[int, int] | None = None
        self._count = 0

    def __enter__(self) -> "VideoWriter":
        """Return the writer."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish the file, or remove what was written if an exception is passing."""
        try:
            if kind is None:
                self._finish()
        finally:
            try:
                self._close()
            except Exception:
                if kind is None:
                    raise
                # closing writes, too: on a full disk it fails again, and says less
            finally:
                if self._partial.is_dir():
                    shutil.rmtree(self._partial)
                else:
                    self._partial.unlink(missing_ok=True)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the frames that were written."""
        return (self._size[1], self._size[0]) if self._size else (0, 0)

    def write(self, frame: Frame) -> None:
        """Append one frame (H, W, 3) uint8 RGB."""
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            raise ValueError(
                f"VideoWriter: a frame is uint8 (H, W, 3), got {frame.dtype} {frame.shape}"
            )
        size = (frame.shape[0], frame.shape[1])
        if size != (self._size or size):
            raise ValueError(f"VideoWriter: frames of {self._size} and of {size} in one video")
        with _errors_of(self._path):
            if self._size is None:
                self._size = size
                self._open(*size)
            if self._suffix == "":
                Image.fromarray(frame).save(self._partial / f"{self._count:05d}.png")
            else:
                self._encode(frame)
        self._count += 1

    def _open(self, height: int, width: int) -> None:
        import av

        if self._suffix == "":
            self._partial.mkdir()
            return
        options = _CONTAINERS.get(self._suffix, _CONTAINER)
        self._container = av.open(f"file:{self._partial}", "w", options=options)
        if self._suffix == ".gif":
            self._stream = self._container.add_stream("gif", rate=self._fps)
            self._stream.width, self._stream.height = width, height
            self._stream.pix_fmt = "rgb8"
            return
        codec, codec_options = _CODECS[self._suffix]
        options = codec_options | (_same_bytes() if codec == "libx264" else {})
        self._stream = self._container.add_stream(codec, rate=self._fps, options=options)
        self._stream.width, self._stream.height = width + width % 2, height + height % 2
        self._stream.pix_fmt = "yuv420p"
        context = self._stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = _LIMITED

    def _encode(self, rgb: Frame) -> None:
        import av

        if self._suffix != ".gif":
            odd = ((0, rgb.shape[0] % 2), (0, rgb.shape[1] % 2), (0, 0))
            rgb = np.pad(rgb, odd, mode="edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
        if self._suffix != ".gif":
            frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709")
            frame.colorspace = frame.color_primaries = frame.color_trc = _BT709
            frame.color_range = _LIMITED
        frame.pts, frame.time_base = self._count, 1 / self._fps
        self._container.mux(self._stream.encode(frame))

    def _finish(self) -> None:
        if self._count == 0:
            raise ValueError(f"{self._path}: no frames were written")
        with _errors_of(self._path):
            if self._container is not None:
                self._container.mux(self._stream.encode(None))
                self._close()
            if self._audio_from is not None:
                self._add_audio(self._audio_from)
            self._partial.replace(self._path)

    def _close(self) -> None:
        if self._container is not None:
            container, self._container = self._container, None
            container.close()

    def _add_audio(self, source: str | Path) -> None:
        import av

        joined = self._partial.with_name(f"{self._partial.stem}.joined{self._suffix}")
        options = _CONTAINERS.get(self._suffix, _CONTAINER)
        try:
            with (
                open_container(source) as sound,
                open_container(self._partial) as pictures,
                av.open(f"file:{joined}", "w", options=options) as target,
            ):
                seconds = float(self._count / self._fps)
                add_sound(pictures, sound, target, seconds, self._suffix)
            joined.replace(self._partial)
        finally:
            joined.unlink(missing_ok=True)


def _same_bytes() -> dict[str, str]:
    """Return options with which x264 makes the same bytes of the same pictures.

    Its AVX-512 code reads memory that nobody wrote: macroblock tree, small videos.
    """
    import torch

    if torch.backends.cpu.get_cpu_capability() == "AVX512":
        return {"x264-params": "asm=avx2"}
    return {}


@contextmanager
def _errors_of(path: Path) -> Iterator[None]:
    """Name the result in errors of writing it, which know its unfinished file or no name at all."""
    import av

    try:
        yield
    except (av.FFmpegError, OSError) as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
