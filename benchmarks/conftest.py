"""The timing fixture; README.md says how to run the benchmarks."""

import platform
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

Measure = Callable[..., float]


def pytest_configure(config: pytest.Config) -> None:
    config.option.benchmark_columns = ["median", "iqr", "rounds"]
    config.option.benchmark_sort = "median"


@pytest.fixture
def measure(benchmark: BenchmarkFixture) -> Measure:
    """Return ``measure(group, fn, **extra)``, which times ``fn()`` and returns the median seconds.

    ``group`` gathers what is compared: the table prints every median as a ratio to the group's
    best. Keywords such as ``shape``, ``dtype``, ``backend`` and ``device`` are stored with the
    figures (``--benchmark-json``), and so are the versions. One call a test; ``fn`` is warmed up,
    and waits for the GPU where ``device`` is one.
    """

    def run(
        group: str, fn: Callable[[], object], *, rounds: int = 20, warmup: int = 5, **extra: Any
    ) -> float:
        device = torch.device(extra.setdefault("device", "cpu"))

        def timed() -> None:
            fn()
            if device.type == "cuda":
                torch.cuda.synchronize(device)

        benchmark.group = group
        benchmark.extra_info.update({name: str(value) for name, value in extra.items()})
        benchmark.extra_info.update(
            torch=torch.__version__,
            python=platform.python_version(),
            threads=torch.get_num_threads(),
        )
        if device.type == "cuda":
            benchmark.extra_info["gpu"] = torch.cuda.get_device_name(device)
        benchmark.pedantic(timed, rounds=rounds, warmup_rounds=warmup)
        return float(benchmark.stats.stats.median)

    return run
