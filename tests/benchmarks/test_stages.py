from types import SimpleNamespace

import pytest
import torch

from benchmarks import stages
from benchmarks.stages import StageClock


class Clock:
    """A clock that only goes on when it is told to."""

    now = 0.0

    def perf_counter(self):
        return self.now


class Part:
    def __init__(self, clock):
        self.clock = clock

    def encode(self):
        self.clock.now += 2
        return "latents"

    def decode_stream(self):
        for frame in range(3):
            self.clock.now += 1
            yield frame

    def encode_conditions(self):
        return "conditions"

    def forward(self):
        return "prediction"


@pytest.fixture
def parts(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(stages, "time", clock)
    return SimpleNamespace(**{n: Part(clock) for n in ("image_encoder", "vae", "unet")})


def test_stages_are_timed_and_the_model_is_left_as_it_was(parts):
    clock, vae = StageClock(torch.device("cpu")), parts.vae
    with clock.watching(parts):
        assert vae.encode() == "latents"
        frames = []
        for frame in vae.decode_stream():
            frames.append(frame)
            vae.clock.now += 50  # what happens between two frames is not the decoder's
    assert frames == [0, 1, 2]
    assert clock.seconds == {"VAE encoder": 2, "VAE decoder": 3}
    assert list(vars(vae)) == ["clock"]


def test_the_clock_stops_when_the_model_fails(parts):
    clock = StageClock(torch.device("cpu"))
    with pytest.raises(ValueError, match="no poses"), clock.watching(parts):
        parts.vae.encode()
        raise ValueError("no poses")
    assert list(vars(parts.vae)) == ["clock"]
