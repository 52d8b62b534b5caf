"""Put the sound of one video under the pictures of another."""

import heapq
import logging
from collections.abc import Iterable, Iterator
from fractions import Fraction
from operator import itemgetter
from pathlib import Path
from typing import Any

_log = logging.getLogger(__name__)

# per container: what may be copied as it is, and what anything else is encoded as
_COPIED = {".mp4": {"aac", "mp3", "ac3", "alac"}, ".webm": {"opus", "vorbis"}}
_ENCODER = {".mp4": "aac", ".webm": "libopus"}
_RATE = 48000
# seconds by which a codec's first packet may come before the pictures: what it is primed with
_PRIMING = 0.05


def expect_sound(sound: Any, path: str | Path) -> None:
    """Check that an open PyAV container has sound, and that its first part can be decoded.

    Raises:
        ValueError: it has none, or none that can be decoded.
    """
    import av

    if not sound.streams.audio:
        raise ValueError(f"{path}: there is no sound in it; leave the sound out")
    audio = sound.streams.audio[0]
    try:
        known = audio.codec_context is not None and next(sound.decode(audio), None) is not None
    except av.FFmpegError:
        known = False
    if not known:
        raise ValueError(f"{path}: its sound cannot be decoded; leave the sound out")


def add_sound(pictures: Any, sound: Any, target: Any, seconds: float, suffix: str) -> None:
    """Write the pictures of one open container and the sound of another to a third.

    Pictures are copied. Sound is copied where the target can hold it, and encoded anew otherwise.
    Its time counts from the first picture of its own video. Where it is damaged it ends, with a
    warning: by now the pictures are made, and worth more.

    Args:
        pictures: PyAV container to read the video stream of.
        sound: PyAV container to read the first audio stream of.
        target: PyAV container to write.
        seconds: where the sound is cut.
        suffix: ".mp4" or ".webm", the kind of the target.
    """
    video, audio = pictures.streams.video[0], sound.streams.audio[0]
    video_copy = target.add_stream_from_template(video)
    copied = audio.codec_context.name in _COPIED[suffix]
    if copied:
        track = target.add_stream_from_template(audio)
    else:
        track = target.add_stream(_ENCODER[suffix], rate=_RATE, layout="stereo")
    target.start_encoding()  # an encoder knows its frames once it is open
    begin = _begin(sound)
    if copied:
        packets = _cut(sound, audio, begin, seconds)
    else:
        packets = _encoded(sound, audio, track, begin, seconds)
    # side by side in the file, or a player that reads it as it comes stays silent
    both = heapq.merge(
        _timed(pictures.demux(video), video_copy), _timed(packets, track), key=itemgetter(0)
    )
    for _, packet in both:
        target.mux(packet)


def _timed(packets: Iterable[Any], stream: Any) -> Iterator[tuple[Fraction, Any]]:
    """Yield packets of a stream of the target, each with the time in seconds it is decoded at."""
    for packet in packets:
        if packet.dts is not None:
            time = packet.dts * packet.time_base
            packet.stream = stream
            yield time, packet


def _begin(sound: Any) -> float:
    """Return the time of the first picture; recordings of broadcasts and cameras count on."""
    video = sound.streams.video[0]
    return float((video.start_time or 0) * video.time_base)


def _cut(sound: Any, audio: Any, begin: float, seconds: float) -> Iterator[Any]:
    shift = round(begin / audio.time_base)
    for packet in _until_damaged(sound.demux(audio), sound):
        if packet.is_corrupt:
            _warn(sound, "a packet is cut short")
            return
        if packet.dts is None:
            continue
        packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
        if -_PRIMING <= packet.pts * packet.time_base < seconds:
            yield packet


def _encoded(sound: Any, audio: Any, track: Any, begin: float, seconds: float) -> Iterator[Any]:
    import av

    context = track.codec_context
    resampler = av.AudioResampler(
        format=context.format, layout=context.layout, rate=_RATE, frame_size=context.frame_size
    )
    for frame in _until_damaged(sound.decode(audio), sound):
        if frame.time is not None:
            if frame.time - begin >= seconds:
                break
            if frame.time - begin < -_PRIMING:
                continue
            frame.pts -= round(begin / frame.time_base)
        for part in resampler.resample(frame):
            yield from track.encode(part)
    for part in resampler.resample(None):
        yield from track.encode(part)
    yield from track.encode(None)


def _until_damaged(parts: Iterator[Any], sound: Any) -> Iterator[Any]:
    import av

    try:
        yield from parts
    except av.FFmpegError as error:
        _warn(sound, error.strerror)


def _warn(sound: Any, why: str | None) -> None:
    path = sound.name.removeprefix("file:")
    _log.warning("%s: its sound is damaged and left out from there: %s", path, why)
