"""`geglu`: first half times the GELU of the second half, in one pass."""

from torch import Tensor

from .._autocast import autocast
from .._checks import expect_activations, expect_not_empty
from .._dispatch import choose


@autocast("x")
def geglu(x: Tensor, *, backend: str | None = None) -> Tensor:
    """Multiply the first half of the last axis by the exact GELU of the second half.

    ``x[..., :H] * gelu(x[..., H:])`` with ``gelu(g) = g / 2 * (1 + erf(g / sqrt(2)))`` (Shazeer,
    GLU variants, arXiv 2002.05202, equation 6).

    Args:
        x: (..., 2H), any strides but a dense last axis.
        backend: a name binds the call to that backend; None takes the first that can serve it.

    Returns:
        (..., H), contiguous, in x's dtype.

    Raises:
        TypeError: an unsupported dtype.
        ValueError: an empty axis, an odd or strided last one.
        BackendError: the named backend cannot serve the call.
    """
    op = "geglu"
    if not isinstance(x, Tensor) or x.dim() < 1:
        raise ValueError(f"{op}: x must be a tensor (..., 2H), got {x!r}")
    expect_activations(op, {"x": x})
    expect_not_empty(op, "x", x)
    if x.shape[-1] % 2:
        raise ValueError(f"{op}: the last axis of x must be even (2H), got {x.shape[-1]}")
    match choose(op, x, backend):
        case "native":
            from .native import forward
        case "triton":
            from .triton import forward
        case _:
            from .reference import forward
    return forward(x)
