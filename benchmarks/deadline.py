"""The time of a run: no figure starts when too little is left, none goes on when it is over."""

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


class OutOfTime(pytest.skip.Exception):
    """Skips a test that there is no time for."""


# an alarm inside a destructor is lost: the next one is so many seconds later
_AGAIN = 1.0


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
            raise OutOfTime(f"too little is left of the {self._seconds:.0f} seconds of this run")

    @contextmanager
    def enforced(self) -> Iterator[None]:
        """Skip the test inside, wherever it is, when the time is over: compiling may take long."""
        if math.isinf(self._seconds):
            yield
            return

        def over(*_: object) -> None:
            raise OutOfTime(f"under way when the {self._seconds:.0f} seconds of this run were over")

        before = signal.signal(signal.SIGALRM, over)
        signal.setitimer(signal.ITIMER_REAL, max(1e-3, self._seconds - self.passed), _AGAIN)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
