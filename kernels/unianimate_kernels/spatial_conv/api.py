"""`spatial_conv`: a 3x3 convolution of pictures, zero padded."""

from torch import Tensor

from .._autocast import autocast
from .._checks import expect_alike, expect_not_empty, expect_rank, expect_shape
from .._dispatch import choose
from .._inference import refusal
from .._repeated import repeated
from .tiles import native_pays


@autocast("x", "weight", "bias")
@repeated
def spatial_conv(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, backend: str | None = None
) -> Tensor:
    """Convolve every picture with a kernel of 3x3, zeros being around it.

    ``y[h, w] = bias + sum over i, j in 0..2 of weight[:, :, i, j] x[h + i - 1, w + j - 1]``: a
    Conv2d of kernel 3 and padding 1.

    Args:
        x: (N, C, H, W); the fast form is channels-last in memory, which the result keeps.
        weight: (C_out, C, 3, 3), channels last or not.
        bias: (C_out,) or None; weight and bias have x's dtype.
        backend: a name binds the call to that backend; None takes the first that can serve it
            and is not slower than the next. The native one is for float32 and bfloat16 and has no
            gradient.

    Returns:
        (N, C_out, H, W).

    Raises:
        TypeError: mixed or unsupported dtypes.
        ValueError: shapes or devices that do not fit, an empty axis.
        BackendError: the named backend cannot serve the call.
    """
    op = "spatial_conv"
    expect_rank(op, "x", x, "(N, C, H, W)")
    expect_rank(op, "weight", weight, "(C_out, C, 3, 3)")
    expect_not_empty(op, "x", x)
    expect_alike(op, x, {"weight": weight, "bias": bias}, optional=("bias",))
    expect_shape(op, "weight", weight, (weight.shape[0], x.shape[1], 3, 3))
    expect_shape(op, "bias", bias, (weight.shape[0],))
    given = (x, weight) if bias is None else (x, weight, bias)
    slow = () if native_pays(x, weight) else ("native",)
    if choose(op, x, backend, {"native": refusal(given)}, slow) == "native":
        from .native import forward
    else:
        from .reference import forward
    return forward(x, weight, bias)
