"""How long each stage of the pipeline takes, by a clock around the methods it calls."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import GeneratorType
from typing import Any

import torch

from unianimate.models import UniAnimate
from unianimate.profiling import synchronise


class StageClock:
    """Adds up the time spent inside the parts of a model while they are watched.

    Attributes:
        seconds: stage -> seconds.
    """

    def __init__(self, device: torch.device) -> None:
        self.seconds: dict[str, float] = {}
        self._device = device

    @contextmanager
    def watching(self, model: UniAnimate) -> Iterator[None]:
        """Watch the parts of a model."""
        watched = {
            "image encoder": (model.image_encoder, "encode"),
            "VAE encoder": (model.vae, "encode"),
            "conditions": (model.unet, "encode_conditions"),
            "network": (model.unet, "forward"),
            "VAE decoder": (model.vae, "decode_stream"),
        }
        for stage, (part, method) in watched.items():
            setattr(part, method, self._timed(stage, getattr(part, method)))
        try:
            yield
        finally:
            for part, method in watched.values():
                delattr(part, method)  # what the instance got hid the method of its class

    def _timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            result = self._add(stage, lambda: function(*args, **kwargs))
            if isinstance(result, GeneratorType):
                return self._stream(stage, result)
            return result

        return run

    def _stream(self, stage: str, items: Iterator[Any]) -> Iterator[Any]:
        end = object()
        while (item := self._add(stage, lambda: next(items, end))) is not end:
            yield item

    def _add(self, stage: str, function: Callable[[], Any]) -> Any:
        synchronise(self._device)
        start = time.perf_counter()
        result = function()
        synchronise(self._device)
        passed = time.perf_counter() - start
        self.seconds[stage] = self.seconds.get(stage, 0.0) + passed
        return result
