import signal
import time

import pytest

from benchmarks.deadline import Deadline, OutOfTime


def test_without_seconds_nothing_is_skipped():
    before = signal.getsignal(signal.SIGALRM)
    deadline = Deadline(None)
    deadline.check(1e9)
    with deadline.enforced():
        assert signal.getsignal(signal.SIGALRM) is before


def test_what_would_take_longer_than_what_is_left_does_not_start():
    deadline = Deadline(60)
    deadline.check(30)
    with pytest.raises(OutOfTime, match="too little is left of the 60 seconds"):
        deadline.check(61)


@pytest.mark.parametrize("already_over", [False, True])
def test_what_is_under_way_is_given_up_when_the_time_is_over(already_over):
    before = signal.getsignal(signal.SIGALRM)
    deadline = Deadline(0.1)
    time.sleep(0.2 if already_over else 0)
    start = time.perf_counter()
    with pytest.raises(OutOfTime, match="under way"), deadline.enforced():
        time.sleep(60)
    assert time.perf_counter() - start < 30
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_what_ends_in_time_is_left_alone():
    with Deadline(0.2).enforced():
        done = True
    time.sleep(0.3)  # the alarm is off
    assert done
