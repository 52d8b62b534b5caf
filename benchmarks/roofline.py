"""What an op must do at least, and how long this machine needs for that at least."""

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Work:
    """The least an op has to do.

    Attributes:
        bytes: moved between memory and processor: what is read and written once.
        flops: additions and multiplications.
        exps: exponentials, and logarithms and sigmoids as one each.
        arithmetic: dtype whose matrix products bound the flops; scans and norms compute in float32
            whatever they read.
    """

    bytes: float
    flops: float = 0.0
    exps: float = 0.0
    arithmetic: str = "float32"


class Bound(NamedTuple):
    """The least time for some work.

    Attributes:
        seconds: as if memory, arithmetic and exponentials overlapped without loss.
        by: what takes the longest: "bytes", "flops" or "exps".
    """

    seconds: float
    by: str


@dataclass(frozen=True)
class Limits:
    """What this machine was measured to do.

    Attributes:
        copy: (bytes of the working set, bytes a second), smallest first: caches are faster.
        matmul: dtype -> flops a second of a large matrix product, float32 and what else the
            machine has instructions for.
        exps: exponentials a second in float32.
    """

    copy: tuple[tuple[int, float], ...]
    matmul: dict[str, float]
    exps: float

    def bandwidth(self, working_set: float) -> float:
        """Return bytes a second for a working set: the rate of the next larger one measured."""
        return next((rate for size, rate in self.copy if size >= working_set), self.copy[-1][1])

    def better(self, other: "Limits") -> "Limits":
        """Return the higher rates of two measurements: what else the machine does lowers them."""
        return Limits(
            copy=tuple(
                (size, max(rate, again))
                for (size, rate), (_, again) in zip(self.copy, other.copy, strict=True)
            ),
            matmul={dtype: max(rate, other.matmul[dtype]) for dtype, rate in self.matmul.items()},
            exps=max(self.exps, other.exps),
        )

    def bound(self, work: Work) -> Bound:
        """Return the least time for `work`."""
        seconds = {
            "bytes": work.bytes / self.bandwidth(work.bytes),
            "flops": work.flops / self.matmul.get(work.arithmetic, self.matmul["float32"]),
            "exps": work.exps / self.exps,
        }
        slowest = max(seconds, key=lambda name: seconds[name])
        return Bound(seconds[slowest], slowest)
