"""`rms_norm`: rows over their root mean square, what is added to them first in the same pass."""

from torch import Tensor

from .._autocast import autocast
from .._checks import expect_alike, expect_not_empty, expect_shape
from .._dispatch import choose
from .._inference import refusal


@autocast("x", "added", "weight")
def rms_norm(
    x: Tensor,
    weight: Tensor,
    eps: float = 1e-5,
    *,
    added: Tensor | None = None,
    backend: str | None = None,
) -> Tensor:
    """Divide rows by their root mean square (Zhang and Sennrich, arXiv 1910.07467, equation 4).

    ``weight h / sqrt(mean of h^2 over the channels + eps)`` with ``h = x + added``.

    Args:
        x: (..., C).
        weight: (C,).
        eps: added to the mean square.
        added: like x, or None.
        backend: a name binds the call to that backend; None takes the first that can serve it.
            Only the reference has a gradient.

    Returns:
        (..., C), contiguous, in x's dtype; weight and added have it, too.

    Raises:
        TypeError: mixed or unsupported dtypes.
        ValueError: shapes or devices that do not fit, an empty axis.
        BackendError: the named backend cannot serve the call.
    """
    op = "rms_norm"
    if x.dim() == 0:
        raise ValueError(f"{op}: x must be (..., C), got a number")
    expect_not_empty(op, "x", x)
    expect_alike(op, x, {"weight": weight, "added": added}, optional=("added",))
    expect_shape(op, "weight", weight, (x.shape[-1],))
    expect_shape(op, "added", added, tuple(x.shape))
    off = refusal((x, weight) if added is None else (x, weight, added))
    match choose(op, x, backend, {"native": off, "triton": off}):
        case "native":
            from .native import forward
        case "triton":
            from .triton import forward
        case _:
            from .reference import forward
    return forward(x, weight, eps, added)
