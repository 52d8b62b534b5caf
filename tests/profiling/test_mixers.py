import pytest
import torch
from torch import nn

from unianimate.profiling import MIXERS, MixerCost, crossing, measure_mixer, profile_mixers

TINY = {"dim": 32, "size": (2, 2), "budget": 0.0}


def test_every_mixer_is_measured_at_every_length():
    costs = list(profile_mixers(frames=[2, 5], **TINY))
    assert [(c.mixer, c.frames) for c in costs] == [(m, f) for f in (2, 5) for m in MIXERS]
    for cost in costs:
        assert 0 < cost.low <= cost.seconds <= cost.high
        assert cost.seconds_a_frame == cost.seconds / cost.frames
    memory = {(cost.mixer, cost.frames): cost.peak_bytes for cost in costs}
    for mixer in MIXERS:
        assert memory[mixer, 2] < memory[mixer, 5]


def test_training_holds_more_than_inference_and_checkpoints_hold_less():
    def peak(mode):
        mixer = MIXERS["mamba"]
        return measure_mixer("mamba", mixer, frames=16, mode=mode, **TINY).peak_bytes

    inference, training, checkpointed = map(peak, ("inference", "training", "checkpointed"))
    assert inference < checkpointed < training


def test_what_the_device_has_not_the_memory_for_has_no_figures():
    class Large(nn.Module):
        def forward(self, x):
            if x.shape[2] > 2:  # more than any machine has
                return x + torch.empty(2**60, dtype=torch.uint8)[0]
            return x

    small, large = (measure_mixer("large", lambda _: Large(), frames=n, **TINY) for n in (2, 3))
    assert small.seconds > 0 and small.rounds >= 2
    assert (large.seconds, large.peak_bytes, large.frames) == (None, None, 3)

    def broken(_):
        return nn.Linear(3, 3)

    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        measure_mixer("broken", broken, frames=2, **TINY)


def cost(mixer, frames, seconds, spread=0.0):
    quartiles = {} if seconds is None else {"low": seconds - spread, "high": seconds + spread}
    return MixerCost(
        mixer=mixer, dim=32, height=1, width=1, frames=frames, seconds=seconds, **quartiles
    )


def test_the_crossing_is_where_a_mixer_stays_faster():
    costs = [
        *(cost("a", frames, seconds) for frames, seconds in ((1, 1), (2, 9), (4, 3), (8, 5))),
        *(cost("b", frames, seconds) for frames, seconds in ((1, 2), (2, 2), (4, 4), (8, 9))),
    ]
    assert crossing(costs, "a", "b") == 4
    assert crossing(costs, "b", "a") is None
    # what did not fit the memory does not count
    assert crossing([*costs, cost("a", 16, 9), cost("b", 16, None)], "a", "b") == 4


@pytest.mark.parametrize(("spread", "found"), [(0.1, 1), (0.5, None), (0.6, None)])
def test_a_mixer_is_faster_where_the_quartiles_are_apart(spread, found):
    assert crossing([cost("a", 1, 1, spread), cost("b", 1, 2, spread)], "a", "b") == found


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"dim": 33}, "dim must be a multiple of 32, got 33"),
        ({"frames": []}, "frames"),
        ({"size": (0, 2)}, "got 0x2"),
    ],
)
def test_wrong_sizes_are_refused(wrong, says):
    with pytest.raises(ValueError, match=says):
        list(profile_mixers(**{"frames": [2], **TINY, **wrong}))
