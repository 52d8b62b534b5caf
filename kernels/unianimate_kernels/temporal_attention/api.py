"""`temporal_attention`: softmax attention over the frames, at every location."""

from torch import Tensor

from .._autocast import autocast
from .._checks import expect_activations, expect_not_empty, expect_rank, expect_shape
from .._dispatch import choose

# what compiles without spills on every GPU: a program holds whole heads in registers
_TRITON_HEAD_DIM = 64


@autocast("q", "k", "v")
def temporal_attention(
    q: Tensor, k: Tensor, v: Tensor, *, scale: float | None = None, backend: str | None = None
) -> Tensor:
    """Attend over the frames, separately at each location and head.

    ``softmax(scale * q[f] . k[g] over g) v[g]`` (Vaswani et al., arXiv 1706.03762, equation 1),
    read in place: q, k and v are views of the projections, nothing is rearranged.

    Args:
        q: (B, F, S, heads, head_dim), any strides but a dense last axis.
        k: like q.
        v: like q.
        scale: factor of the scores; None is ``head_dim ** -0.5``.
        backend: a name binds the call to that backend; None takes the first that can serve it.

    Returns:
        (B, F, S, heads, head_dim), contiguous, in q's dtype.

    Raises:
        TypeError: mixed or unsupported dtypes.
        ValueError: shapes or devices that do not fit, an empty axis, a strided last axis.
        BackendError: the named backend cannot serve the call.
    """
    op = "temporal_attention"
    expect_rank(op, "q", q, "(B, F, S, heads, head_dim)")
    expect_not_empty(op, "q", q)
    expect_activations(op, {"q": q, "k": k, "v": v})
    expect_shape(op, "k", k, tuple(q.shape))
    expect_shape(op, "v", v, tuple(q.shape))
    limits = {}
    if q.shape[-1] > _TRITON_HEAD_DIM:
        limits["triton"] = f"it takes head_dim up to {_TRITON_HEAD_DIM}, got {q.shape[-1]}"
    match choose(op, q, backend, limits):
        case "native":
            from .native import forward
        case "triton":
            from .triton import forward
        case "xformers":
            from .peer import forward
        case _:
            from .reference import forward
    return forward(q, k, v, q.shape[-1] ** -0.5 if scale is None else scale)
