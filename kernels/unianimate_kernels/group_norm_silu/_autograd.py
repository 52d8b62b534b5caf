"""What the native and the Triton form share: fakes, and the wiring of autograd."""

from typing import Any

import torch
from torch import Tensor

from .._registration import Operator
from ..selective_scan.reference import accumulator
from . import layout


def empty_statistics(x: Tensor, num_groups: int) -> tuple[Tensor, Tensor]:
    """Allocate mean and rstd, (N, groups) in the type that accumulates."""
    mean = x.new_empty(x.shape[0], num_groups, dtype=accumulator(x))
    return mean, torch.empty_like(mean)


def empty_gradients(
    x: Tensor, weight: Tensor, embedding: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Allocate the gradients of x, weight, bias and embedding; the last one may be empty."""
    shift = x.new_empty(0 if embedding is None else embedding.shape)
    return layout.empty(x), weight.new_empty(weight.shape), weight.new_empty(weight.shape), shift


def register(forward: Operator, backward: Operator, *, planes: bool) -> None:
    """Give both ops their fakes and the forward op its gradient.

    ``forward`` takes x, num_groups, weight, bias, eps, embedding and whether SiLU follows, and
    returns the output, mean and rstd. ``backward`` takes the output's gradient, x, weight, bias,
    embedding, mean, rstd and silu, and returns what `empty_gradients` allocates. ``planes`` says
    whether they take planes (`layout`).
    """

    @forward.register_fake
    def _(x: Tensor, num_groups: int, *arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
        return layout.empty(x), *empty_statistics(x, num_groups)

    @backward.register_fake
    def _(
        grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor, embedding: Tensor | None, *rest: Any
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return empty_gradients(x, weight, embedding)

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, _, weight, bias, _, embedding, ctx.silu = inputs
        ctx.save_for_backward(x, weight, bias, embedding, *output[1:])

    # mean and rstd leave no further than `forward` below the op: they have no gradient
    def gradients(ctx: Any, grad: Tensor, *unused: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors  # once: gradient checkpointing unpacks them at every access
        x, embedding = saved[0], saved[3]
        if layout.refusal(x, grad, planes=planes) is not None:
            grad = layout.empty(x).copy_(grad)
        grad_x, grad_weight, grad_bias, shift = backward(grad, *saved, ctx.silu)
        grad_embedding = None if embedding is None else shift
        return grad_x, None, grad_weight, grad_bias, None, grad_embedding, None

    forward.register_autograd(gradients, setup_context=setup_context)
