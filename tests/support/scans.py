"""Inputs of the selective scans, and the recurrence as the Mamba paper writes it."""

import torch
from torch import Tensor

PARAMETERS = frozenset(
    {"A", "D", "dt_bias", "initial_state", "A_reverse", "D_reverse", "dt_bias_reverse"}
)
FRAMES = (1, 2, 3, 4, 5, 15, 16, 17, 33, 65, 97)
DYNAMICS = ("x", "dt", "A", "B", "C", "D", "dt_bias")


def make_inputs(
    frames: int,
    *,
    batch: int = 1,
    space: int = 2,
    width: int = 5,
    d_state: int = 3,
    geometric: bool = False,
    full: bool = True,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Return float64 arguments of `selective_scan`; ``full`` adds D, z and dt_bias."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    inputs = {
        "x": normal(batch, frames, space, width),
        "dt": normal(batch, frames, space, width) - 1,
        "A": -normal(width).exp() / 2 if geometric else -normal(width, d_state).exp(),
        "B": normal(batch, frames, space, d_state),
        "C": normal(batch, frames, space, d_state),
    }
    if full:
        inputs["D"] = normal(width)
        inputs["z"] = normal(batch, frames, space, width)
        inputs["dt_bias"] = normal(width)
    return inputs


def make_state(inputs: dict[str, Tensor], seed: int = 1) -> Tensor:
    """Return a state (B, S, D, N) that fits the inputs."""
    batch, _, space, width = inputs["x"].shape
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, space, width, inputs["B"].shape[-1])
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def recurrence(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    dt_bias: Tensor,
    *,
    initial_state: Tensor | None = None,
    reverse: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return output before the gate and last state: one state at a time, in scalars.

    h = exp(delta A) h + delta B x, y = C h + D x (Mamba, arXiv 2312.00752, algorithm 2).
    """
    batch, frames, space, width = x.shape
    d_state = B.shape[-1]
    y = D * x
    states = torch.zeros(batch, space, width, d_state, dtype=x.dtype)
    if initial_state is not None:
        states = initial_state.clone()
    for b, s, d, n in torch.cartesian_prod(*map(torch.arange, states.shape)).tolist():
        rate = A[d] * (n + 1) if A.dim() == 1 else A[d, n]
        h = states[b, s, d, n]
        for f in range(frames - 1, -1, -1) if reverse else range(frames):
            delta = (dt[b, f, s, d] + dt_bias[d]).exp().log1p()
            h = (delta * rate).exp() * h + delta * B[b, f, s, n] * x[b, f, s, d]
            y[b, f, s, d] += C[b, f, s, n] * h
        states[b, s, d, n] = h
    return y, states
