"""What the ops do under ``torch.autocast``: one rule for all of them.

Activations and weights are cast to autocast's dtype, as torch casts those of a matmul; decays,
biases added to dt and states stay float32, and float64 is left alone. The op itself then runs
with autocast off, so that its float32 accumulation is not undone.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")


def autocast(*names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Give an op the rule: arguments in ``names`` are cast, the first argument sets the device."""

    def decorate(op: Callable[P, R]) -> Callable[P, R]:
        order = tuple(inspect.signature(op).parameters)

        def cast(name: str, value: Any, dtype: torch.dtype) -> Any:
            if name not in names:
                return value
            if isinstance(value, (list, tuple)):
                return [cast(name, item, dtype) for item in value]
            tensor = isinstance(value, Tensor) and value.is_floating_point()
            return value.to(dtype) if tensor and value.dtype != torch.float64 else value

        @functools.wraps(op)
        def call(*args: Any, **kwargs: Any) -> R:
            first = args[0] if args else kwargs.get(order[0])
            device = first.device.type if isinstance(first, Tensor) else "cpu"
            # meta tensors have shapes and no numbers, so nothing to cast
            if device == "meta" or not torch.is_autocast_enabled(device):
                return op(*args, **kwargs)
            dtype = torch.get_autocast_dtype(device)
            args = tuple(cast(name, value, dtype) for name, value in zip(order, args))
            kwargs = {name: cast(name, value, dtype) for name, value in kwargs.items()}
            with torch.autocast(device, enabled=False):
                return op(*args, **kwargs)

        return call

    return decorate
