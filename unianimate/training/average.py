"""The exponential moving average of the weights."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from unianimate.training.sharding import like


class WeightAverage:
    """Averages of parameters, in float32; young averages forget faster.

    Args:
        parameters: named; those that are trained.
        decay: d in average = d average + (1 - d) weights; at step n at most (1 + n) / (10 + n).
    """

    def __init__(self, parameters: Iterable[tuple[str, nn.Parameter]], decay: float) -> None:
        self._parameters = dict(parameters)
        self.decay = decay
        self.averages = {name: p.detach().float().clone() for name, p in self._parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after a step (from 0)."""
        share = 1 - min(self.decay, (1 + step) / (10 + step))
        weights = [p.detach().float() for p in self._parameters.values()]
        torch._foreach_lerp_(list(self.averages.values()), weights, share)

    @torch.no_grad()
    def load(self, averages: dict[str, Tensor]) -> None:
        """Take over averages of the same names."""
        for name, average in self.averages.items():
            average.copy_(like(averages[name], average))

    def apply(self) -> None:
        """Put the averages in place of the weights."""
        self._set(self.averages)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Run with the averages in place of the weights."""
        kept = {name: p.detach().clone() for name, p in self._parameters.items()}
        self.apply()
        try:
            yield
        finally:
            self._set(kept)

    @torch.no_grad()
    def _set(self, values: dict[str, Tensor]) -> None:
        for name, parameter in self._parameters.items():
            parameter.copy_(values[name])
