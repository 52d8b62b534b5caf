"""`feed_forward`: the feed-forward of a transformer, without its wide rows in memory."""

from torch import Tensor

from .._autocast import autocast
from .._checks import expect_activations, expect_not_empty, expect_shape
from .._dispatch import choose
from .._inference import refusal


@autocast("x", "norm_weight", "norm_bias", "weight_in", "bias_in", "weight_out", "bias_out")
def feed_forward(
    x: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    weight_in: Tensor,
    bias_in: Tensor,
    weight_out: Tensor,
    bias_out: Tensor,
    *,
    eps: float = 1e-5,
    backend: str | None = None,
) -> Tensor:
    """Normalise the rows, widen them, gate by a GELU, narrow them, and add what came in.

    ``x + geglu(LayerNorm(x) @ weight_in.T + bias_in) @ weight_out.T + bias_out`` (Shazeer, GLU
    variants, arXiv 2002.05202, equation 6; normalisation before, arXiv 2002.04745).

    Args:
        x: (..., C), any strides but a dense last axis.
        norm_weight: (C,).
        norm_bias: (C,).
        weight_in: (2H, C), values first, then gates.
        bias_in: (2H,).
        weight_out: (C, H).
        bias_out: (C,).
        eps: added to the variance of a row.
        backend: a name binds the call to that backend; None takes the first that can serve it.
            The native and the Triton one have no gradient.

    Returns:
        (..., C), contiguous, in x's dtype.

    Raises:
        TypeError: mixed or unsupported dtypes.
        ValueError: shapes or devices that do not fit, an empty axis, a strided last one.
        BackendError: the named backend cannot serve the call.
    """
    op = "feed_forward"
    weights = {
        "norm_weight": norm_weight,
        "norm_bias": norm_bias,
        "weight_in": weight_in,
        "bias_in": bias_in,
        "weight_out": weight_out,
        "bias_out": bias_out,
    }
    expect_activations(op, {"x": x, **weights})
    if x.dim() < 1:
        raise ValueError(f"{op}: x must be (..., C), got a single number")
    expect_not_empty(op, "x", x)
    dim = x.shape[-1]
    if weight_out.dim() != 2 or weight_out.shape[0] != dim or weight_out.shape[1] < 1:
        raise ValueError(
            f"{op}: weight_out must be (C, H) with the {dim} channels of x, "
            f"got {tuple(weight_out.shape)}"
        )
    hidden = weight_out.shape[1]
    expect_shape(op, "norm_weight", norm_weight, (dim,))
    expect_shape(op, "norm_bias", norm_bias, (dim,))
    expect_shape(op, "weight_in", weight_in, (2 * hidden, dim))
    expect_shape(op, "bias_in", bias_in, (2 * hidden,))
    expect_shape(op, "bias_out", bias_out, (dim,))
    why = refusal((x, *weights.values()))
    match choose(op, x, backend, {"native": why, "triton": why}):
        case "native":
            from .native import forward
        case "triton":
            from .triton import forward
        case _:
            from .reference import forward
    return forward(x, norm_weight, norm_bias, weight_in, bias_in, weight_out, bias_out, eps)
