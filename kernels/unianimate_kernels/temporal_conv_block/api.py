"""`temporal_conv_block`: four stages of normalisation, SiLU and a convolution over the frames."""

from collections.abc import Sequence

from torch import Tensor

from .._autocast import autocast
from .._checks import expect_alike, expect_list, expect_not_empty, expect_rank
from .._dispatch import choose
from .._inference import refusal
from .._repeated import repeated

STAGES = 4


@autocast("x", "norm_weights", "norm_biases", "weights", "biases")
@repeated
def temporal_conv_block(
    x: Tensor,
    num_groups: int,
    norm_weights: Sequence[Tensor],
    norm_biases: Sequence[Tensor],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    *,
    eps: float = 1e-5,
    backend: str | None = None,
) -> Tensor:
    """Normalise the clip, apply SiLU and convolve over three frames, four times; add what came in.

    ``x + stage_4(stage_3(stage_2(stage_1(x))))``, each stage `group_norm_silu` over the clip and
    `temporal_conv` (ModelScope, arXiv 2308.06571, section 3.1).

    Args:
        x: (B, C, F, H, W); the fast form is channels-last in memory, which the result is.
        num_groups: groups of C / num_groups neighbouring channels.
        norm_weights: four of (C,).
        norm_biases: four of (C,).
        weights: four of (C, C, 3, 1, 1).
        biases: four of (C,).
        eps: added to the variances.
        backend: a name binds the call to that backend; None takes the first that can serve it.
            The native and the Triton one have no gradient.

    Returns:
        (B, C, F, H, W) in x's dtype.

    Raises:
        TypeError: mixed or unsupported dtypes.
        ValueError: shapes, devices or num_groups that do not fit, an empty axis.
        BackendError: the named backend cannot serve the call.
    """
    op = "temporal_conv_block"
    expect_rank(op, "x", x, "(B, C, F, H, W)")
    expect_not_empty(op, "x", x)
    channels = x.shape[1]
    if num_groups < 1 or channels % num_groups:
        raise ValueError(f"{op}: num_groups must divide the {channels} channels, got {num_groups}")
    expect_alike(op, x, {})
    lists = {
        "norm_weights": norm_weights,
        "norm_biases": norm_biases,
        "weights": weights,
        "biases": biases,
    }
    for name, tensors in lists.items():
        shape = (channels, channels, 3, 1, 1) if name == "weights" else (channels,)
        expect_list(op, x, name, tensors, STAGES * [shape])
    given = (x, *(tensor for tensors in lists.values() for tensor in tensors))
    why = refusal(given)
    match choose(op, x, backend, {"native": why, "triton": why}):
        case "native":
            from .native import forward
        case "triton":
            from .triton import forward
        case _:
            from .reference import forward
    return forward(
        x, num_groups, list(norm_weights), list(norm_biases), list(weights), list(biases), eps
    )
