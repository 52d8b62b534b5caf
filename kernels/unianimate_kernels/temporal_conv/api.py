"""`temporal_conv`: a convolution of three frames, zero padded in time."""

from torch import Tensor

from .._autocast import autocast
from .._checks import expect_alike, expect_not_empty, expect_rank, expect_shape
from .._dispatch import choose


@autocast("x", "weight", "bias")
def temporal_conv(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, backend: str | None = None
) -> Tensor:
    """Convolve over three neighbouring frames at every location.

    ``y[f] = bias + sum over w in 0..2 of weight[:, :, w] x[f + w - 1]``, frames outside the clip
    being zero: a Conv3d of kernel (3, 1, 1) and padding (1, 0, 0).

    Args:
        x: (B, C, F, H, W); the fast form is channels-last in memory, which the result keeps.
        weight: (C_out, C, 3, 1, 1).
        bias: (C_out,) or None; weight and bias have x's dtype.
        backend: a name binds the call to that backend; None takes the first that can serve it.

    Returns:
        (B, C_out, F, H, W).

    Raises:
        TypeError: mixed or unsupported dtypes.
        ValueError: shapes or devices that do not fit, an empty axis.
        BackendError: the named backend cannot serve the call.
    """
    op = "temporal_conv"
    expect_rank(op, "x", x, "(B, C, F, H, W)")
    expect_rank(op, "weight", weight, "(C_out, C, 3, 1, 1)")
    expect_not_empty(op, "x", x)
    expect_alike(op, x, {"weight": weight, "bias": bias}, optional=("bias",))
    expect_shape(op, "weight", weight, (weight.shape[0], x.shape[1], 3, 1, 1))
    expect_shape(op, "bias", bias, (weight.shape[0],))
    match choose(op, x, backend):
        case "native":
            from .native import forward
        case _:
            from .reference import forward
    return forward(x, weight, bias)
