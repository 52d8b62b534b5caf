"""What the two Mamba blocks share: the convolution over frames, the dynamics, the carried state."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from unianimate_kernels import causal_conv1d

_DT_MIN, _DT_MAX = 1e-3, 1e-1


class MambaState(NamedTuple):
    """What a forward-only Mamba block knows of the frames before a clip, float32 (or float64).

    Attributes:
        conv: (B, S, d_conv - 1, width), the last inputs of the convolution.
        scan: the state of the scan, as its op defines it.
    """

    conv: Tensor
    scan: Tensor


class CausalConv(nn.Module):
    """A depthwise convolution over the frames with SiLU, looking to one side.

    Args:
        dim: channels.
        d_conv: frames it sees, itself included.
    """

    def __init__(self, dim: int, d_conv: int) -> None:
        super().__init__()
        bound = d_conv**-0.5
        self.weight = nn.Parameter(torch.empty(dim, d_conv).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor, *, reverse: bool = False) -> Tensor:
        """Convolve x (B, F, S, dim); with `reverse` a frame sees the later ones."""
        y = causal_conv1d(x, self.weight, self.bias, reverse=reverse)
        assert isinstance(y, Tensor)
        return y

    def stream(self, x: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """Convolve the next clip and return the state behind it."""
        y, final = causal_conv1d(
            x, self.weight, self.bias, initial_state=state, return_final_state=True
        )
        return y, final

    def extra_repr(self) -> str:
        """Tell the sizes."""
        return f"{self.weight.shape[0]}, d_conv={self.weight.shape[1]}"


class ScanParameters(nn.Module):
    """The parameters of a scan that do not depend on the input: decays, step bias, skip.

    The step sizes softplus(dt_bias) start log-uniform in [0.001, 0.1], the skip at one. Whatever
    dtype they are stored in, the scan gets float32 (float64 beside float64).

    Args:
        width: channels or heads, each with its own step bias and skip.
        decays: initial decay rates, positive, (width,) or (width, N).
    """

    def __init__(self, width: int, decays: Tensor) -> None:
        super().__init__()
        low, high = math.log(_DT_MIN), math.log(_DT_MAX)
        dt = torch.exp(torch.rand(width) * (high - low) + low)
        self.A_log = nn.Parameter(decays.log())
        self.D = nn.Parameter(torch.ones(width))
        # the inverse of softplus
        self.dt_bias = nn.Parameter(dt + torch.log(-torch.expm1(-dt)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return A (negative), D and dt_bias in the dtype that a scan of x accumulates in."""
        dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        return -self.A_log.to(dtype).exp(), self.D.to(dtype), self.dt_bias.to(dtype)


def check_streaming(block: str, bidirectional: bool, streaming: bool) -> None:
    """Check that state is carried by a block that looks at the past only.

    Raises:
        ValueError: if not.
    """
    if streaming and bidirectional:
        raise ValueError(
            f"{block}: state can be carried by a block built with bidirectional=False; "
            f"this one also looks at the frames to come"
        )


def per_direction(bidirectional: bool, make: Callable[[], Any]) -> tuple[Any, Any]:
    """Return a module for each direction; the second is None if there is one direction only."""
    return make(), make() if bidirectional else None
