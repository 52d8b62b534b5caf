"""The selective scan in plain torch: the specification of every other backend.

Mamba (arXiv 2312.00752), equations 2a-2b with the zero-order-hold discretisation of algorithm 2,
step by step over the frames in float32 (float64 for float64 input), every location and channel
at once with the channels last. Autograd gives the gradients.
"""

import torch
from torch import Tensor
from torch.nn.functional import silu, softplus


def accumulator(x: Tensor) -> torch.dtype:
    """Return the dtype the recurrence runs in."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def decay_rates(A: Tensor, d_state: int) -> Tensor:
    """Return the rates (D, N) of free (D, N) or geometric (D,) decays: A[d] * (n + 1)."""
    if A.dim() == 2:
        return A
    return A[:, None] * torch.arange(1, d_state + 1, device=A.device, dtype=A.dtype)


def scan(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    dt_bias: Tensor | None,
    dt_softplus: bool,
    reverse: bool,
    initial_state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the ungated output (B, F, S, D) and the final state (B, S, D, N), both accumulated."""
    dtype = accumulator(x)
    x, delta, B, C = x.to(dtype), dt.to(dtype), B.to(dtype), C.to(dtype)
    if dt_bias is not None:
        delta = delta + dt_bias
    if dt_softplus:
        delta = softplus(delta)
    rates = decay_rates(A, B.shape[-1])
    batch, frames, space, width = x.shape
    state = initial_state
    if state is None:
        state = x.new_zeros(batch, space, width, B.shape[-1])
    outputs: list[Tensor] = [x] * frames
    for frame in reversed(range(frames)) if reverse else range(frames):
        step = delta[:, frame, :, :, None]
        update = (step * x[:, frame, :, :, None]) * B[:, frame, :, None, :]
        state = torch.exp(step * rates) * state + update
        outputs[frame] = (state @ C[:, frame, :, :, None]).squeeze(-1)
    y = torch.stack(outputs, dim=1)
    return (y if D is None else y + D * x), state


def forward(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    dt_softplus: bool,
    reverse: bool,
    initial_state: Tensor | None,
    return_final_state: bool,
) -> tuple[Tensor, Tensor]:
    """Return the gated output in x's dtype and the final state, wanted or not."""
    y, state = scan(x, dt, A, B, C, D, dt_bias, dt_softplus, reverse, initial_state)
    if z is not None:
        y = y * silu(z.to(y.dtype))
    return y.to(x.dtype), state
