"""The progress bar of commands that sample: steps and frames done, speed and time left."""

import time
from collections import deque
from collections.abc import Callable
from typing import Any


class Forecast:
    """How fast a video is made and how long the rest takes, from what was done last.

    Steps of sampling and frames of decoding take their own time each. What an earlier run kept is
    no work of this one.

    Args:
        frames: of the whole video.
        clock: in seconds.
    """

    def __init__(self, frames: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.frames, self.frames_done = frames, 0
        self.steps, self.steps_done = 0, 0
        self._clock, self._last = clock, clock()
        self._sampling, self._decoding = _Rate(), _Rate()

    def kept(self, frames: int) -> None:
        """Count frames of an earlier run."""
        self.frames_done = frames
        self._last = self._clock()

    def step(self, done: int, in_all: int) -> None:
        """Count a step of sampling."""
        self.steps_done, self.steps = done, in_all
        self._sampling.count(self._since_last())

    def frame(self) -> None:
        """Count a frame that is decoded and written."""
        self.frames_done += 1
        self._decoding.count(self._since_last())

    def __str__(self) -> str:
        """Return a line such as "step 30/30, 12/64 frames, 0.41 frames/s, 0:02:06 left"."""
        parts = [f"{self.frames_done}/{self.frames} frames"]
        if self.steps:
            parts.insert(0, f"step {self.steps_done}/{self.steps}")
        step, frame = self._sampling.seconds_each, self._decoding.seconds_each
        left = (self.steps - self.steps_done) * step + (self.frames - self.frames_done) * frame
        if self._decoding.is_known:
            speed = self.frames / max(self.steps * step + self.frames * frame, 1e-9)
            parts += [f"{speed:.3g} frames/s", f"{_clock_face(left)} left"]
        elif self._sampling.is_known:
            # how long decoding takes is not known before the first frame
            parts += [f"{step:.3g} s a step", f"{_clock_face(left)} of sampling left"]
        return ", ".join(parts)

    def _since_last(self) -> float:
        now = self._clock()
        seconds, self._last = now - self._last, now
        return seconds


class _Rate:
    """The mean of the last few durations."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=20)

    def count(self, seconds: float) -> None:
        self._recent.append(seconds)

    @property
    def is_known(self) -> bool:
        return bool(self._recent)

    @property
    def seconds_each(self) -> float:
        return sum(self._recent) / len(self._recent) if self._recent else 0.0


class ProgressBar:
    """Shows a `Forecast` on the terminal while it is entered.

    Args:
        frames: of the whole video.
        show: nothing is shown without a terminal either.
    """

    def __init__(self, frames: int, *, show: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        console = Console(stderr=True)
        self.forecast = Forecast(frames)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[text]}"),
            console=console,
            transient=True,
            disable=not (show and console.is_terminal),
        )
        self._task = self._bar.add_task("preparing", total=None, text="")

    def __enter__(self) -> "ProgressBar":
        """Show the bar."""
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Remove it."""
        self._bar.stop()

    def kept(self, frames: int) -> None:
        """Count frames of an earlier run."""
        self.forecast.kept(frames)
        self._update()

    def step(self, done: int, in_all: int) -> None:
        """Count a step of sampling."""
        self.forecast.step(done, in_all)
        self._update("sampling")

    def frame(self) -> None:
        """Count a frame that is decoded and written."""
        self.forecast.frame()
        self._update("decoding")

    def _update(self, description: str | None = None) -> None:
        forecast = self.forecast
        fields: dict[str, Any] = {"text": str(forecast)}
        if description is not None:
            fields["description"] = description
        # a step and a frame each move the bar, whatever their time
        total = forecast.steps + forecast.frames
        done = forecast.steps_done + forecast.frames_done
        self._bar.update(self._task, total=total, completed=done, **fields)


def _clock_face(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
