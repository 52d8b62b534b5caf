"""The time of a call: median and quartiles over as many rounds as a budget allows."""

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch

# seconds that a round on a GPU takes, in so many calls at most
_GPU_ROUND, _MOST_CALLS = 2e-3, 50


class Timing(NamedTuple):
    """Seconds a call, over several rounds.

    Attributes:
        median: of the rounds.
        low: the lower quartile.
        high: the upper quartile.
        rounds: how many.
    """

    median: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, seconds: list[float]) -> "Timing":
        """Sum up the times of the rounds."""
        if len(seconds) == 1:
            return cls(seconds[0], seconds[0], seconds[0], 1)
        low, median, high = statistics.quantiles(seconds, n=4, method="inclusive")
        return cls(median, low, high, len(seconds))


def synchronise(device: torch.device) -> None:
    """Wait until `device` has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def rounds_within(budget: float, seconds: float, *, fewest: int = 3, most: int = 50) -> int:
    """Return how many calls of so many seconds fit a budget of seconds, within limits."""
    return min(most, max(fewest, int(budget / max(seconds, 1e-9))))


def calls_a_round(device: torch.device, seconds: float) -> int:
    """Return how many calls of so many seconds to time as one.

    On a GPU several if they are short: one alone would mostly time its launch, which in a network
    overlaps with the call before.
    """
    if device.type != "cuda":
        return 1
    return min(_MOST_CALLS, max(1, round(_GPU_ROUND / max(seconds, 1e-9))))


def time_calls(function: Callable[[], object], device: torch.device, calls: int = 1) -> float:
    """Return the seconds of a call, of so many behind each other that are waited for once."""
    synchronise(device)
    start = time.perf_counter()
    for _ in range(calls):
        function()
    synchronise(device)
    return (time.perf_counter() - start) / calls


def time_call(
    function: Callable[[], object],
    device: torch.device | str = "cpu",
    *,
    budget: float = 1.0,
    fewest: int = 3,
    warm: bool = False,
) -> Timing:
    """Time a call.

    Args:
        function: the call.
        device: where it computes; a GPU is waited for, after several calls if they are short.
        budget: seconds to spend, besides the warm-up; the fewest rounds may take longer.
        fewest: rounds in any case.
        warm: the call has run before, so that it needs no warm-up.

    Returns:
        Median and quartiles.
    """
    device = torch.device(device)

    if not warm:
        time_calls(function, device)
    first = time_calls(function, device)
    calls = calls_a_round(device, first)
    rounds = rounds_within(budget, calls * first, fewest=fewest)
    if calls > 1:
        return Timing.of([time_calls(function, device, calls) for _ in range(rounds)])
    return Timing.of([first, *(time_calls(function, device) for _ in range(rounds - 1))])
