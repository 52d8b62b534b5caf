"""`ssd_scan`: Mamba-2's recurrence over the frames, at every location of the picture."""

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
from .._inference import refusal
from ..selective_scan.api import ScanOutput

_WIDEST_CUDA = 128  # channels of a head, and states: the products stand in shared memory


@autocast("x", "dt", "B", "C", "z")
def ssd_scan(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    *,
    dt_softplus: bool = True,
    reverse: bool = False,
    chunk_size: int | None = None,
    initial_state: Tensor | None = None,
    return_final_state: bool = False,
    backend: str | None = None,
) -> Tensor | ScanOutput:
    """Run Mamba-2's scan over the frames at every location.

    With ``delta = softplus(dt + dt_bias)``, for every location s and head h, whose P channels
    share one decay::

        H[f] = exp(delta[f] * A) * H[f-1] + delta[f] * x[f] B[f]^T        H: P x N
        y[f] = (H[f] C[f] + D * x[f]) * silu(z[f])

    (Dao and Gu, Transformers are SSMs, arXiv 2405.21060, section 6.) Inside a chunk of frames it
    is computed as a masked matrix product. With ``reverse=True`` time runs backwards.

    Args:
        x: (B, F, S, H, P) input of H heads of P channels.
        dt: (B, F, S, H) step sizes before bias and softplus.
        A: (H,) negative decay rates.
        B: (B, F, S, G, N) input projections of G groups; H is a multiple of G.
        C: (B, F, S, G, N) output projections.
        D: (H,) skip, or None.
        z: (B, F, S, H, P) gate, or None.
        dt_bias: (H,) added to dt in float32, or None.
        dt_softplus: pass dt through softplus.
        reverse: scan from the last frame to the first.
        chunk_size: frames computed by one matrix product; None lets the backend choose. It changes
            speed and rounding, not the meaning.
        initial_state: (B, S, H, P, N) state before the first frame scanned; None is zero.
        return_final_state: also return the state after the last frame scanned.
        backend: a name binds the call to that backend; None takes the first that can serve it.

    Returns:
        (B, F, S, H, P) in x's dtype, or `ScanOutput` with the state (B, S, H, P, N) in float32.

    Raises:
        TypeError: mixed or unsupported dtypes. A, D, dt_bias and the state are float32.
        ValueError: shapes or devices that do not fit, an empty axis, a strided last axis.
        BackendError: the named backend cannot serve the call.
    """
    op = "ssd_scan"
    expect_rank(op, "x", x, "(B, F, S, H, P)")
    expect_rank(op, "B", B, "(B, F, S, G, N)")
    expect_not_empty(op, "x", x)
    expect_not_empty(op, "B", B)
    expect_activations(op, {"x": x, "dt": dt, "B": B, "C": C, "z": z}, optional=("z",))
    absent = {"D": D, "dt_bias": dt_bias, "initial_state": initial_state}
    expect_parameters(op, x, {"A": A, **absent}, optional=absent)
    batch, frames, space, heads, width = x.shape
    groups, d_state = B.shape[3:]
    expect_shape(op, "dt", dt, (batch, frames, space, heads))
    expect_shape(op, "z", z, tuple(x.shape))
    for name, tensor in (("B", B), ("C", C)):
        expect_shape(op, name, tensor, (batch, frames, space, groups, d_state))
    for name, parameter in (("A", A), ("D", D), ("dt_bias", dt_bias)):
        expect_shape(op, name, parameter, (heads,))
    expect_shape(op, "initial_state", initial_state, (batch, space, heads, width, d_state))
    if heads % groups:
        raise ValueError(
            f"{op}: the heads of x ({heads}) must be a multiple of B's groups ({groups})"
        )
    if chunk_size is not None and chunk_size < 1:
        raise ValueError(f"{op}: chunk_size must be at least 1, got {chunk_size}")
    limits = None
    if x.device.type == "cuda" and max(width, d_state) > _WIDEST_CUDA:
        most = f"up to {_WIDEST_CUDA} channels a head and {_WIDEST_CUDA} states"
        limits = {"native": f"on cuda it takes {most}, got {width} and {d_state}"}
    slow: tuple[str, ...] = ()
    if x.device.type == "cuda" and x.dtype in (torch.bfloat16, torch.float16):
        given = (x, dt, A, B, C, D, z, dt_bias, initial_state)
        if refusal(tensor for tensor in given if tensor is not None) is None:
            # the CUDA code computes in float32 alone, Triton's forward has a form for these
            slow = ("native",)
    match choose(op, x, backend, limits, slow):
        case "native":
            from .native import forward
        case "triton":
            from .triton import forward
        case "mamba_ssm":
            from .peer import forward
        case _:
            from .reference import forward
    output, state = forward(
        *(x, dt, A, B, C, D, z, dt_bias, dt_softplus, reverse, chunk_size),
        *(initial_state, return_final_state),
    )
    return ScanOutput(output, state) if return_final_state else output
