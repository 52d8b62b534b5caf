"""Time and peak memory of temporal mixers as a clip grows."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from unianimate.blocks import TemporalMamba, TemporalMamba2, TemporalTransformer
from unianimate.out_of_memory import is_lack_of_memory

from .memory import peak_bytes
from .timing import time_call

Mode = Literal["inference", "training", "checkpointed"]
Mixer = Callable[[int], nn.Module]


def _transformer(dim: int) -> nn.Module:
    return TemporalTransformer(dim, head_dim=32 if dim % 64 else 64)


# name -> what builds the block for a number of channels
MIXERS: Mapping[str, Mixer] = {
    "transformer": _transformer,
    "mamba": TemporalMamba,
    "mamba2": TemporalMamba2,
}
# checkpoints matter from the second block on
_TRAINED_BLOCKS = 2


@dataclass(frozen=True, kw_only=True)
class MixerCost:
    """What one temporal mixer costs at one size.

    Attributes:
        mixer: its name.
        dim: channels.
        height: locations down.
        width: locations across.
        frames: frames of the clip.
        mode: "inference" is the forward of one block; "training" the forward and backward of two
            blocks in a row, "checkpointed" the same with the activations recomputed block by block.
        seconds: a block, median; None if it did not fit the memory of the device.
        low: the lower quartile.
        high: the upper quartile.
        rounds: calls that were timed.
        peak_bytes: most bytes held at once besides weights and input; None as above.
    """

    mixer: str
    dim: int
    height: int
    width: int
    frames: int
    mode: Mode = "inference"
    seconds: float | None = None
    low: float | None = None
    high: float | None = None
    rounds: int = 0
    peak_bytes: int | None = None

    @property
    def seconds_a_frame(self) -> float | None:
        """Seconds a block and frame."""
        return None if self.seconds is None else self.seconds / self.frames


def measure_mixer(
    name: str,
    mixer: Mixer,
    *,
    dim: int,
    size: tuple[int, int],
    frames: int,
    mode: Mode = "inference",
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    budget: float = 1.0,
    fewest: int = 2,
) -> MixerCost:
    """Measure one temporal mixer on a random clip (1, dim, frames, *size).

    Args:
        name: what to call it.
        mixer: builds the block for a number of channels.
        dim: channels, a multiple of 32.
        size: locations (height, width).
        frames: frames of the clip.
        mode: see `MixerCost`.
        device: where to compute.
        dtype: of weights and clip.
        budget: seconds to spend on timing.
        fewest: rounds in any case.

    Returns:
        Its cost; without figures if the device has not the memory.
    """
    device = torch.device(device)
    cost = MixerCost(mixer=name, dim=dim, height=size[0], width=size[1], frames=frames, mode=mode)
    blocks = [mixer(dim) for _ in range(1 if mode == "inference" else _TRAINED_BLOCKS)]
    stack = nn.Sequential(*blocks).to(device, dtype)
    try:
        call = _call(stack, _clip(dim, frames, size, device, dtype), mode)
        peak = peak_bytes(call, device)
        timing = time_call(call, device, budget=budget, fewest=fewest, warm=True)
    except (RuntimeError, MemoryError) as error:
        if not is_lack_of_memory(error):
            raise
        return cost
    seconds, low, high = (figure / len(blocks) for figure in timing[:3])
    cost = replace(cost, seconds=seconds, low=low, high=high)
    return replace(cost, rounds=timing.rounds, peak_bytes=peak)


def profile_mixers(
    *,
    dim: int,
    size: tuple[int, int],
    frames: Sequence[int],
    mixers: Mapping[str, Mixer] = MIXERS,
    mode: Mode = "inference",
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    budget: float = 1.0,
) -> Iterator[MixerCost]:
    """Yield the cost of every mixer at every number of frames, as soon as it is known.

    The arguments are those of `measure_mixer`.

    Raises:
        ValueError: `dim` is not a multiple of 32, or a size is not positive.
    """
    if dim < 1 or dim % 32:
        raise ValueError(f"dim must be a multiple of 32, got {dim}")
    if min(size) < 1 or not frames or min(frames) < 1:
        raise ValueError(f"sizes must be positive, got {size[0]}x{size[1]}, frames {list(frames)}")
    for count in frames:
        for name, mixer in mixers.items():
            yield measure_mixer(
                *(name, mixer),
                dim=dim,
                size=size,
                frames=count,
                mode=mode,
                device=device,
                dtype=dtype,
                budget=budget,
            )


def crossing(costs: Sequence[MixerCost], one: str, other: str) -> int | None:
    """Return the fewest frames from which on `one` is faster than `other` beyond their quartiles.

    Only sizes where both were measured count.

    Args:
        costs: of both mixers, at one size and in one mode.
        one: name of a mixer.
        other: name of another.

    Returns:
        A number of frames, or None if `one` is not faster at the most frames.
    """
    measured: dict[str, dict[int, MixerCost]] = {one: {}, other: {}}
    for cost in costs:
        if cost.mixer in measured and cost.seconds is not None:
            measured[cost.mixer][cost.frames] = cost
    found = None
    for frames in sorted(measured[one].keys() & measured[other].keys(), reverse=True):
        slowest, fastest = measured[one][frames].high, measured[other][frames].low
        if slowest is None or fastest is None or slowest >= fastest:
            break
        found = frames
    return found


def _clip(
    dim: int, frames: int, size: tuple[int, int], device: torch.device, dtype: torch.dtype
) -> Tensor:
    last = torch.randn(1, frames, *size, dim, device=device, dtype=dtype)
    return last.permute(0, 4, 1, 2, 3)  # channels last in memory


def _call(stack: nn.Sequential, x: Tensor, mode: Mode) -> Callable[[], object]:
    if mode == "inference":
        return torch.no_grad()(lambda: stack(x))
    x.requires_grad_()
    leaves = [x, *stack.parameters()]

    def step() -> object:
        h = x
        for block in stack:
            h = checkpoint(block, h, use_reentrant=False) if mode == "checkpointed" else block(h)
        return torch.autograd.grad(h.sum(), leaves)

    return step
