"""What a computation costs on this machine: time, and the memory it holds at once."""

from .memory import LiveBytes, peak_bytes
from .mixers import MIXERS, Mixer, MixerCost, Mode, crossing, measure_mixer, profile_mixers
from .timing import Timing, synchronise, time_call

__all__ = [
    "MIXERS",
    "LiveBytes",
    "Mixer",
    "MixerCost",
    "Mode",
    "Timing",
    "crossing",
    "measure_mixer",
    "peak_bytes",
    "profile_mixers",
    "synchronise",
    "time_call",
]
