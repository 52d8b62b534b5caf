"""What the native and the Triton form share: fakes, and the wiring of autograd."""

from typing import Any

from torch import Tensor

from .._dense import dense_last
from .._registration import Operator
from ..selective_scan.reference import accumulator


def empty_state(x: Tensor, state: Tensor | None) -> Tensor:
    """Allocate the gradient of the state, dense as it is written; empty where there is none."""
    return x.new_empty(0, dtype=accumulator(x)) if state is None else state.new_empty(state.shape)


def register(forward: Operator, backward: Operator) -> None:
    """Give both ops their fakes and the forward op its gradient.

    ``forward`` takes x, weight, bias, silu, reverse and state and returns an output like x.
    ``backward`` takes the output's gradient before these, and returns the gradients of x, weight,
    bias and state, the last one empty where there is no state.
    """

    @forward.register_fake
    def _(x: Tensor, *arguments: Any) -> Tensor:
        return x.new_empty(x.shape)

    @backward.register_fake
    def _(grad: Tensor, x: Tensor, weight: Tensor, *arguments: Any) -> tuple[Tensor, ...]:
        bias = weight.new_empty(x.shape[-1])
        grad_state = empty_state(x, arguments[-1])
        return x.new_empty(x.shape), weight.new_empty(weight.shape), bias, grad_state

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, bias, ctx.silu, ctx.reverse, state = inputs
        ctx.save_for_backward(x, weight, bias, state)

    def gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, state = ctx.saved_tensors
        grad_x, grad_weight, grad_bias, grad_state = backward(
            dense_last(grad), x, weight, bias, ctx.silu, ctx.reverse, state
        )
        return (
            grad_x,
            grad_weight,
            None if bias is None else grad_bias,
            None,
            None,
            None if state is None else grad_state,
        )

    forward.register_autograd(gradients, setup_context=setup_context)
