"""The time of a run: no figure starts when too little is left, none goes on when it is over."""

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


class Deadline:
    """So many seconds from now on.

    Args:
        seconds: infinitely many if None.
    """

    def __init__(self, seconds: float | None) -> None:
        self._seconds = math.inf if seconds is None else seconds
        self._start = time.perf_counter()

    @property
    def passed(self) -> float:
        """The seconds since the start."""
        return time.perf_counter() - self._start

    def check(self, needed: float = 0.0) -> None:
        """Skip the test if there are not so many seconds left."""
        if self.passed + needed > self._seconds:
            pytest.skip(f"too little is left of the {self._seconds:.0f} seconds of this run")

    @contextmanager
    def enforced(self) -> Iterator[None]:
        """Skip the test inside, wherever it is, when the time is over: compiling may take long."""
        if math.isinf(self._seconds):
            yield
            return

        def over(*_: object) -> None:
            pytest.skip(f"was under way when the {self._seconds:.0f} seconds of this run were over")

        before = signal.signal(signal.SIGALRM, over)
        signal.setitimer(signal.ITIMER_REAL, max(1e-3, self._seconds - self.passed))
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
