"""`bidirectional_selective_scan`: the selective scan both ways in time, in one kernel."""

from torch import Tensor

from .._autocast import autocast
from .._checks import expect_activations, expect_shape
from .._dispatch import choose
from ..selective_scan.api import check_scan_inputs


@autocast("x", "dt", "B", "C", "z", "x_reverse", "dt_reverse", "B_reverse", "C_reverse")
def bidirectional_selective_scan(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    *,
    x_reverse: Tensor | None = None,
    dt_reverse: Tensor | None = None,
    A_reverse: Tensor | None = None,
    B_reverse: Tensor | None = None,
    C_reverse: Tensor | None = None,
    D_reverse: Tensor | None = None,
    dt_bias_reverse: Tensor | None = None,
    dt_softplus: bool = True,
    backend: str | None = None,
) -> Tensor:
    """Run the selective scan forwards and backwards over the frames and gate the sum once.

    ``(scan(x, dt, A, B, C, D) + scan(the *_reverse ones, backwards in time)) * silu(z)``, with the
    scan of `selective_scan`. A ``*_reverse`` that is None is shared by both directions; when
    ``dt``, ``A`` and ``dt_bias`` are all shared, so are the decays (one exponential serves both).

    Args:
        x: (B, F, S, D) input of the forward direction.
        dt: (B, F, S, D) step sizes before bias and softplus.
        A: (D, N) negative decay rates, or (D,): geometric decays as in `selective_scan`.
        B: (B, F, S, N) input projections.
        C: (B, F, S, N) output projections.
        D: (D,) skip, or None.
        z: (B, F, S, D) gate of the sum, or None.
        dt_bias: (D,) added to dt in float32, or None.
        x_reverse: like x, for the reverse direction; so are the others. ``A_reverse`` has as many
            axes as ``A``. Where ``D`` or ``dt_bias`` is None, so is its ``*_reverse``.
        dt_reverse: see x_reverse.
        A_reverse: see x_reverse.
        B_reverse: see x_reverse.
        C_reverse: see x_reverse.
        D_reverse: see x_reverse.
        dt_bias_reverse: see x_reverse.
        dt_softplus: pass dt through softplus.
        backend: a name binds the call to that backend; None takes the first that can serve it.

    Returns:
        (B, F, S, D) in x's dtype.

    Raises:
        TypeError: mixed or unsupported dtypes.
        ValueError: shapes or devices that do not fit, an empty axis, a strided last axis.
        BackendError: the named backend cannot serve the call.
    """
    op = "bidirectional_selective_scan"
    onward = (x, dt, A, B, C, D, dt_bias)
    given = (x_reverse, dt_reverse, A_reverse, B_reverse, C_reverse, D_reverse, dt_bias_reverse)
    xr = x if x_reverse is None else x_reverse
    dtr = dt if dt_reverse is None else dt_reverse
    Ar = A if A_reverse is None else A_reverse
    Br = B if B_reverse is None else B_reverse
    Cr = C if C_reverse is None else C_reverse
    Dr = D if D_reverse is None else D_reverse
    dt_biasr = dt_bias if dt_bias_reverse is None else dt_bias_reverse
    check_scan_inputs(op, x, dt, A, B, C, D, z, dt_bias)
    if any(tensor is not None for tensor in given):
        check_scan_inputs(op, xr, dtr, Ar, Br, Cr, Dr, None, dt_biasr)
        expect_activations(op, {"x": x, "x_reverse": xr})
        expect_shape(op, "x_reverse", xr, tuple(x.shape))
        expect_shape(op, "B_reverse", Br, tuple(B.shape))
        expect_shape(op, "A_reverse", Ar, tuple(A.shape))
        for name, shared, own in (("D", D, D_reverse), ("dt_bias", dt_bias, dt_bias_reverse)):
            if shared is None and own is not None:
                raise ValueError(f"{op}: {name}_reverse is given and {name} is None; give both")
    backward = (xr, dtr, Ar, Br, Cr, Dr, dt_biasr)
    match choose(op, x, backend):
        case "native":
            from .native import forward
        case "triton":
            from .triton import forward
        case _:
            from .reference import forward
    return forward(onward, backward, z, dt_softplus)
