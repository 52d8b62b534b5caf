"""`resnet_block`: two convolutions of frames, each behind a normalisation, and the residual."""

from collections.abc import Sequence

from torch import Tensor

from .._autocast import autocast
from .._checks import (
    expect_alike,
    expect_list,
    expect_not_empty,
    expect_rank,
    expect_tensor,
)
from .._dispatch import choose
from .._inference import refusal
from .._repeated import repeated
from ..spatial_conv.tiles import native_pays


@autocast("x", "embedding", "norm1", "conv1", "emb_proj", "norm2", "conv2", "skip")
@repeated
def resnet_block(
    x: Tensor,
    embedding: Tensor | None,
    num_groups: int,
    norm1: Sequence[Tensor],
    conv1: Sequence[Tensor],
    emb_proj: Sequence[Tensor],
    norm2: Sequence[Tensor],
    conv2: Sequence[Tensor],
    skip: Sequence[Tensor] = (),
    *,
    eps: float = 1e-5,
    backend: str | None = None,
) -> Tensor:
    """Convolve frames twice, each time behind GroupNorm and SiLU; add what came in.

    ``skip(x) + conv2(N(conv1(N(x)) + emb_proj(silu(embedding))))`` with N = `group_norm_silu` of
    each frame (Ho et al., arXiv 2006.11239; the residual block of He et al., arXiv 1603.05027).

    Args:
        x: (N, C, H, W); the fast form is channels-last in memory, which the result is.
        embedding: (B, E) of B items with N / B frames each, one after the other, or None.
        num_groups: groups of neighbouring channels of both norms.
        norm1: weight and bias (C,).
        conv1: weight (D, C, 3, 3) and bias (D,).
        emb_proj: weight (D, E) and bias (D,), or nothing where there is no embedding.
        norm2: weight and bias (D,).
        conv2: weight (D, D, 3, 3) and bias (D,).
        skip: weight (D, C, 1, 1) and bias (D,), or nothing where D = C.
        eps: added to the variances.
        backend: a name binds the call to that backend; None takes the first that can serve it.
            The native and the Triton one have no gradient.

    Returns:
        (N, D, H, W) in x's dtype.

    Raises:
        TypeError: mixed or unsupported dtypes.
        ValueError: shapes, devices or num_groups that do not fit, an empty axis.
        BackendError: the named backend cannot serve the call.
    """
    op = "resnet_block"
    expect_rank(op, "x", x, "(N, C, H, W)")
    expect_not_empty(op, "x", x)
    expect_alike(op, x, {"embedding": embedding}, optional=("embedding",))
    batch, channels = x.shape[:2]
    width = expect_tensor(op, "conv1, tensor 1", conv1[0]).shape[0] if conv1 else channels
    if num_groups < 1 or channels % num_groups or width % num_groups:
        raise ValueError(
            f"{op}: num_groups must divide the {channels} channels of x and the {width} of the "
            f"result, got {num_groups}"
        )
    of_width = (width,)
    expect_list(op, x, "norm1", norm1, 2 * [(channels,)])
    expect_list(op, x, "conv1", conv1, [(width, channels, 3, 3), of_width])
    expect_list(op, x, "norm2", norm2, 2 * [of_width])
    expect_list(op, x, "conv2", conv2, [(width, width, 3, 3), of_width])
    if skip or width != channels:
        expect_list(op, x, "skip", skip, [(width, channels, 1, 1), of_width])
    if embedding is not None:
        expect_rank(op, "embedding", embedding, "(B, E)")
        expect_not_empty(op, "embedding", embedding)
        if batch % embedding.shape[0]:
            raise ValueError(
                f"{op}: embedding must be of items that the {batch} frames of x divide into, "
                f"got {embedding.shape[0]}"
            )
        expect_list(op, x, "emb_proj", emb_proj, [(width, embedding.shape[1]), of_width])
    elif emb_proj:
        raise ValueError(f"{op}: emb_proj is given and no embedding; give both or neither")
    layers = [list(layer) for layer in (norm1, conv1, emb_proj, norm2, conv2, skip)]
    given = [x, *(tensor for layer in layers for tensor in layer)]
    if embedding is not None:
        given.append(embedding)
    why = refusal(given)
    pays = native_pays(x, conv1[0]) and native_pays(x, conv2[0])
    slow = () if pays else ("native",)
    match choose(op, x, backend, {"native": why, "triton": why}, slow):
        case "native":
            from .native import forward
        case "triton":
            from .triton import forward
        case _:
            from .reference import forward
    return forward(x, embedding, num_groups, *layers, eps)
