"""`selective_scan`: Mamba's recurrence over the frames, at every location of the picture."""

from typing import NamedTuple

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


class ScanOutput(NamedTuple):
    """What a scan returns with ``return_final_state=True``."""

    output: Tensor
    final_state: Tensor


def check_scan_inputs(
    op: str,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
) -> None:
    """Check what both scans over frames ask of their arguments; shapes as in `selective_scan`."""
    expect_rank(op, "x", x, "(B, F, S, D)")
    expect_rank(op, "B", B, "(B, F, S, N)")
    expect_not_empty(op, "x", x)
    expect_not_empty(op, "B", B)
    expect_activations(op, {"x": x, "dt": dt, "B": B, "C": C, "z": z}, optional=("z",))
    expect_parameters(op, x, {"A": A, "D": D, "dt_bias": dt_bias}, optional=("D", "dt_bias"))
    width, d_state = x.shape[-1], B.shape[-1]
    for name, tensor in (("dt", dt), ("z", z)):
        expect_shape(op, name, tensor, tuple(x.shape))
    for name, tensor in (("B", B), ("C", C)):
        expect_shape(op, name, tensor, (*x.shape[:3], d_state))
    if A.dim() != 1:
        expect_shape(op, "A", A, (width, d_state))
    for name, tensor in (("A", A if A.dim() == 1 else None), ("D", D), ("dt_bias", dt_bias)):
        expect_shape(op, name, tensor, (width,))


@autocast("x", "dt", "B", "C", "z")
def selective_scan(
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
    initial_state: Tensor | None = None,
    return_final_state: bool = False,
    backend: str | None = None,
) -> Tensor | ScanOutput:
    """Run Mamba's selective scan over the frames at every location.

    With ``delta = softplus(dt + dt_bias)``, for every location s and channel d::

        h[f] = exp(delta[f] * A) * h[f-1] + delta[f] * B[f] * x[f]        h: N states
        y[f] = (C[f] . h[f] + D * x[f]) * silu(z[f])

    (Gu and Dao, Mamba, arXiv 2312.00752, algorithm 2.) With ``reverse=True`` time runs backwards
    and h[f] follows from h[f+1]. Accumulation is float32 (float64 for float64 input).

    Args:
        x: (B, F, S, D) input; float32, bfloat16, float16 or float64, any strides but a dense last
            axis, like every activation here.
        dt: (B, F, S, D) step sizes before bias and softplus.
        A: (D, N) negative decay rates, or (D,): geometric decays, rate ``A[d] * (n + 1)`` for
            state n, which cost one exponential a channel and frame instead of N.
        B: (B, F, S, N) input projections.
        C: (B, F, S, N) output projections.
        D: (D,) skip, or None.
        z: (B, F, S, D) gate, or None.
        dt_bias: (D,) added to dt in float32, or None.
        dt_softplus: pass dt through softplus.
        reverse: scan from the last frame to the first.
        initial_state: (B, S, D, N) state before the first frame scanned; None is zero.
        return_final_state: also return the state after the last frame scanned.
        backend: a name binds the call to that backend; None takes the first that can serve it.

    Returns:
        (B, F, S, D) in x's dtype, or `ScanOutput` with the state (B, S, D, N) in float32.

    Raises:
        TypeError: mixed or unsupported dtypes. A, D, dt_bias and the state are float32.
        ValueError: shapes or devices that do not fit, an empty axis, a strided last axis.
        BackendError: the named backend cannot serve the call.
    """
    check_scan_inputs("selective_scan", x, dt, A, B, C, D, z, dt_bias)
    absent = {"initial_state": initial_state}
    expect_parameters("selective_scan", x, absent, optional=absent)
    state_shape = (x.shape[0], x.shape[2], x.shape[3], B.shape[-1])
    expect_shape("selective_scan", "initial_state", initial_state, state_shape)
    match choose("selective_scan", x, backend):
        case "native":
            from .native import forward
        case "triton":
            from .triton import forward
        case "mamba_ssm":
            from .peer import forward
        case _:
            from .reference import forward
    switches = (dt_softplus, reverse, initial_state, return_final_state)
    output, state = forward(x, dt, A, B, C, D, z, dt_bias, *switches)
    return ScanOutput(output, state) if return_final_state else output
