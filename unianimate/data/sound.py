"""Put the sound of one video under the pictures of another."""

from collections.abc import Iterator
from typing import Any

# per container: what may be copied as it is, and what anything else is encoded as
_COPIED = {".mp4": {"aac", "mp3", "ac3", "alac"}, ".webm": {"opus", "vorbis"}}
_ENCODER = {".mp4": "aac", ".webm": "libopus"}
_RATE = 48000


def add_sound(pictures: Any, sound: Any, target: Any, seconds: float, suffix: str) -> None:
    """Write the pictures of one open container and the sound of another to a third.

    Pictures are copied. Sound is copied where the target can hold it, and encoded anew otherwise.

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
    for packet in pictures.demux(video):
        if packet.dts is not None:
            packet.stream = video_copy
            target.mux(packet)
    for packet in _cut(sound, audio, seconds) if copied else _encoded(sound, audio, track, seconds):
        packet.stream = track
        target.mux(packet)


def _cut(sound: Any, audio: Any, seconds: float) -> Iterator[Any]:
    for packet in sound.demux(audio):
        if packet.dts is not None and packet.pts * packet.time_base < seconds:
            yield packet


def _encoded(sound: Any, audio: Any, track: Any, seconds: float) -> Iterator[Any]:
    import av

    context = track.codec_context
    resampler = av.AudioResampler(
        format=context.format, layout=context.layout, rate=_RATE, frame_size=context.frame_size
    )
    for frame in sound.decode(audio):
        if frame.time is not None and frame.time >= seconds:
            break
        for part in resampler.resample(frame):
            yield from track.encode(part)
    for part in resampler.resample(None):
        yield from track.encode(part)
    yield from track.encode(None)
