"""Videos of a moving pattern, encoded by PyAV in any container and codec."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def moving_pattern(frames: int, height: int = 48, width: int = 64, seed: int = 0) -> np.ndarray:
    """Return uint8 (frames, height, width, 3): coloured squares that slide to the left."""
    cells = np.random.default_rng(seed).integers(0, 255, (height // 8 + 1, width // 4 + 1, 3))
    wide = cells.astype(np.uint8).repeat(8, axis=0).repeat(8, axis=1)[:height]
    return np.stack([np.roll(wide, -index, axis=1)[:, :width] for index in range(frames)])


def write_encoded(
    path: Path,
    video: np.ndarray,
    codec: str = "libx264",
    *,
    rate: int = 25,
    times: Iterable[int] | None = None,
    pixels: str = "yuv420p",
    **options: str,
) -> Path:
    """Encode frames (F, H, W, 3); `times` are in units of 1/rate, the numbers of frames if None."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.height, stream.width = video.shape[1:3]
        stream.pix_fmt = pixels
        for time, rgb in zip(times or range(len(video)), video):
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format=pixels)
            frame.pts, frame.time_base = time, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def cut_start(source: Path, target: Path, seconds: float) -> Path:
    """Copy an MP4 without its start: by an edit list, so that packets before it are discarded."""
    with av.open(str(source)) as whole, av.open(str(target), "w") as part:
        stream = whole.streams.video[0]
        copy = part.add_stream_from_template(stream)
        start = round(seconds / stream.time_base)
        for packet in whole.demux(stream):
            if packet.dts is not None:
                packet.pts, packet.dts, packet.stream = packet.pts - start, packet.dts - start, copy
                part.mux(packet)
    return target


def add_hidden(source: Path, target: Path) -> Path:
    """Copy a VP8 video with one frame more that is decoded and not shown, as two passes make it."""
    with av.open(str(source)) as whole, av.open(str(target), "w") as more:
        stream = whole.streams.video[0]
        copy = more.add_stream_from_template(stream)
        packets = [packet for packet in whole.demux(stream) if packet.size]
        hidden = av.Packet(bytes([bytes(packets[0])[0] & ~0x10]) + bytes(packets[0])[1:])
        hidden.pts = hidden.dts = (packets[0].pts + packets[1].pts) // 2
        hidden.time_base = packets[0].time_base
        for packet in (packets[0], hidden, *packets[1:]):
            packet.stream = copy
            more.mux(packet)
    return target


def turn(source: Path, target: Path, quarters: int = 1) -> Path:
    """Copy an MP4 that says it must be turned clockwise when it is shown, as phones write it."""
    data = bytearray(source.read_bytes())
    a, b, c, d = {1: (0, 1, -1, 0), 2: (-1, 0, 0, -1), 3: (0, -1, 1, 0)}[quarters]
    matrix = data.index(b"tkhd") + 4 + 40
    data[matrix : matrix + 36] = b"".join(
        (value << 16).to_bytes(4, "big", signed=True)
        for value in (a, b, 0, c, d, 0, 64, 0, 1 << 14)
    )
    target.write_bytes(bytes(data))
    return target
