"""`causal_conv1d`: a depthwise convolution over the frames, at every location."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from .._autocast import autocast
from .._checks import (
    expect_activations,
    expect_not_empty,
    expect_parameters,
    expect_rank,
    expect_shape,
)
from .._dispatch import choose
from ..selective_scan.reference import accumulator

_MAX_NATIVE_TAPS = {"cpu": 64, "cuda": 4}


class ConvOutput(NamedTuple):
    """What the convolution returns with ``return_final_state=True``."""

    output: Tensor
    final_state: Tensor


@autocast("x", "weight", "bias")
def causal_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    activation: Literal["silu"] | None = "silu",
    reverse: bool = False,
    initial_state: Tensor | None = None,
    return_final_state: bool = False,
    backend: str | None = None,
) -> Tensor | ConvOutput:
    """Convolve every channel over the frames, looking at the past only.

    ``y[f] = silu(bias + sum over w of weight[:, w] * x[f - (W - 1) + w])``, frames before the clip
    being the state or zero. With ``reverse=True`` frame f looks at the later frames instead:
    ``x[f + (W - 1) - w]``. The convolution of Mamba (arXiv 2312.00752, section 3.4).

    Args:
        x: (B, F, S, D), any strides but a dense last axis.
        weight: (D, W), the last tap meets the frame itself.
        bias: (D,) or None; weight and bias have x's dtype.
        activation: "silu" or None.
        reverse: look at later frames.
        initial_state: (B, S, W-1, D) float32, the frames the first ones look at, oldest first;
            None is zero. With ``reverse=True`` these are the frames behind the clip.
        return_final_state: also return the state for the clip that is scanned next.
        backend: a name binds the call to that backend; None takes the first that can serve it.

    Returns:
        (B, F, S, D) in x's dtype, or `ConvOutput` with the state (B, S, W-1, D) in float32.

    Raises:
        TypeError: mixed or unsupported dtypes.
        ValueError: shapes, devices or an activation that do not fit, an empty or strided axis.
        BackendError: the named backend cannot serve the call.
    """
    op = "causal_conv1d"
    expect_rank(op, "x", x, "(B, F, S, D)")
    expect_rank(op, "weight", weight, "(D, W)")
    expect_not_empty(op, "x", x)
    expect_not_empty(op, "weight", weight)
    expect_activations(op, {"x": x, "weight": weight, "bias": bias}, optional=("bias",))
    absent = {"initial_state": initial_state}
    expect_parameters(op, x, absent, optional=absent)
    batch, _, space, width = x.shape
    expect_shape(op, "weight", weight, (width, weight.shape[1]))
    expect_shape(op, "bias", bias, (width,))
    expect_shape(op, "initial_state", initial_state, (batch, space, weight.shape[1] - 1, width))
    if activation not in ("silu", None):
        raise ValueError(f"{op}: activation must be 'silu' or None, got {activation!r}")
    limits = None
    most = _MAX_NATIVE_TAPS.get(x.device.type, 0)
    if weight.shape[1] > most:
        limits = {"native": f"on {x.device.type} it takes up to {most} taps, got {weight.shape[1]}"}
    match choose(op, x, backend, limits):
        case "native":
            from .native import forward
        case "triton":
            from .triton import forward
        case "causal_conv1d":
            from .peer import forward
        case _:
            from .reference import forward
    output = forward(x, weight, bias, activation, reverse, initial_state)
    if not return_final_state:
        return output
    return ConvOutput(output, _final_state(x, weight.shape[1] - 1, reverse, initial_state))


def _final_state(x: Tensor, past: int, reverse: bool, initial_state: Tensor | None) -> Tensor:
    """Return the (B, S, W-1, D) frames that the clip scanned next has to know, oldest first."""
    dtype = accumulator(x)
    known = min(past, x.shape[1])
    frames = x[:, :known] if reverse else x[:, x.shape[1] - known :]
    frames = frames.to(dtype).transpose(1, 2)
    if known == past:
        return frames.contiguous()
    state = initial_state
    if state is None:
        state = frames.new_zeros(frames.shape[0], frames.shape[1], past, frames.shape[3])
    if reverse:
        return torch.cat([frames, state[:, :, : past - known]], dim=2)
    return torch.cat([state[:, :, known:], frames], dim=2)
