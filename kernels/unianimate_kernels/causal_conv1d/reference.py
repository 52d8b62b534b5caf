"""The causal depthwise convolution over frames in plain torch: the specification.

One multiply-add a tap on shifted views, accumulated in float32 (float64 for float64 input).
"""

import torch
from torch import Tensor
from torch.nn.functional import silu

from ..selective_scan.reference import accumulator


def forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    activation: str | None,
    reverse: bool,
    initial_state: Tensor | None,
) -> Tensor:
    """Return the output in x's dtype."""
    dtype = accumulator(x)
    frames, past = x.shape[1], weight.shape[1] - 1
    xs = x.to(dtype)
    if initial_state is None:
        state = xs.new_zeros(x.shape[0], past, x.shape[2], x.shape[3])
    else:
        state = initial_state.transpose(1, 2)
    # the state stands before the clip in scan order, which is behind it in time when reversed
    padded = torch.cat([xs, state] if reverse else [state, xs], dim=1)
    taps = weight.to(dtype).unbind(1)
    ordered = taps[::-1] if reverse else taps
    y = sum(padded[:, w : w + frames] * tap for w, tap in enumerate(ordered))
    assert isinstance(y, Tensor)
    if bias is not None:
        y = y + bias.to(dtype)
    if activation == "silu":
        y = silu(y)
    return y.to(x.dtype)
