import pytest
import torch

from unianimate.profiling import Timing, time_call
from unianimate.profiling.timing import calls_a_round, rounds_within


def test_quartiles_of_the_rounds():
    assert Timing.of([5.0, 1.0, 2.0, 4.0, 3.0]) == Timing(3.0, 2.0, 4.0, 5)
    assert Timing.of([7.0]) == Timing(7.0, 7.0, 7.0, 1)


@pytest.mark.parametrize(
    ("budget", "seconds", "rounds"), [(1.0, 0.1, 10), (1.0, 9.0, 3), (1.0, 1e-6, 50), (0, 0, 3)]
)
def test_rounds_fit_the_budget_within_limits(budget, seconds, rounds):
    assert rounds_within(budget, seconds) == rounds


def test_a_call_is_warmed_up_and_then_timed():
    calls = []
    timing = time_call(lambda: calls.append(None), budget=0, fewest=4)
    assert timing.rounds == 4
    assert len(calls) == 5
    assert 0 < timing.low <= timing.median <= timing.high


@pytest.mark.parametrize(
    ("device", "seconds", "calls"),
    [("cuda", 1e-4, 20), ("cuda", 1e-6, 50), ("cuda", 0, 50), ("cuda", 0.1, 1), ("cpu", 1e-6, 1)],
)
def test_short_calls_are_timed_together_on_a_gpu(device, seconds, calls):
    assert calls_a_round(torch.device(device), seconds) == calls
