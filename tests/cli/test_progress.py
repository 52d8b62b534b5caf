import io
import logging

import pytest

from unianimate.cli.progress import Forecast, ProgressBar


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now

    def after(self, seconds: float, event, *arguments) -> None:
        self.now += seconds
        event(*arguments)


def test_before_anything_is_done_nothing_is_promised():
    assert str(Forecast(64)) == "0/64 frames"


def test_while_sampling_only_sampling_is_promised():
    clock = Clock()
    forecast = Forecast(64, clock)
    for step in range(1, 4):
        clock.after(2.0, forecast.step, step, 30)
    assert str(forecast) == "step 3/30, 0/64 frames, 2 s a step, 0:00:54 of sampling left"


def test_once_frames_come_the_whole_rest_is_known():
    clock = Clock()
    forecast = Forecast(64, clock)
    for step in range(1, 31):
        clock.after(2.0, forecast.step, step, 30)
    for _ in range(4):
        clock.after(0.5, forecast.frame)
    # 30 steps of 2 s and 64 frames of 0.5 s are 92 s
    assert str(forecast) == "step 30/30, 4/64 frames, 0.696 frames/s, 0:00:30 left"


def test_in_a_chain_the_steps_still_to_come_count_too():
    clock = Clock()
    forecast = Forecast(31, clock)
    clock.after(300.0, forecast.step, 1, 20)  # an hour of work has a slow start
    for step in range(2, 11):
        clock.after(100.0, forecast.step, step, 20)
    for _ in range(16):
        clock.after(10.0, forecast.frame)
    assert str(forecast).endswith("16/31 frames, 0.0114 frames/s, 0:22:30 left")


def test_what_is_kept_is_no_work_of_this_run():
    clock = Clock()
    forecast = Forecast(10, clock)
    clock.after(50.0, forecast.kept, 6)
    clock.after(1.0, forecast.step, 15, 20)
    clock.after(1.0, forecast.frame)
    assert str(forecast) == "step 15/20, 7/10 frames, 0.333 frames/s, 0:00:08 left"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch):
    """Make stderr a terminal; to be called in the test, because pytest sets stderr before it."""

    def replace() -> Terminal:
        stream = Terminal()
        monkeypatch.setattr("sys.stderr", stream)
        return stream

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    return replace


def test_the_bar_shows_it_on_a_terminal(terminal):
    shown = terminal()
    with ProgressBar(2, show=True) as bar:
        bar.step(1, 1)
        bar.frame()
        bar.frame()
    for text in ("decoding", "step 1/1", "2/2 frames", "frames/s", "left"):
        assert text in shown.getvalue()


def test_without_a_terminal_or_when_quiet_there_is_no_bar(terminal):
    shown = terminal()
    with ProgressBar(1, show=False) as bar:
        bar.step(1, 1)
        bar.frame()
    assert shown.getvalue() == ""


def test_the_log_is_written_around_the_bar(terminal):
    from unianimate.cli.animate import _log_to_stderr

    log = logging.getLogger("unianimate")
    handlers, level = log.handlers[:], log.level
    shown = terminal()
    try:
        _log_to_stderr()
        with ProgressBar(2, show=True) as bar:
            bar.step(1, 2)
            logging.getLogger("unianimate.models").info("the network runs in float32")
        assert "the network runs in float32\n" in shown.getvalue()
    finally:
        log.handlers, log.level = handlers, level
