"""What the native and the Triton form share: results to fill, fakes, and the wiring of autograd."""

from typing import Any

from torch import Tensor

from .._registration import Operator
from .reference import accumulator


def empty_outputs(x: Tensor, B: Tensor, return_final_state: bool) -> tuple[Tensor, Tensor]:
    """Return an output like ``x`` and a final state (B, S, D, N), empty if not asked for."""
    batch, _, space, width = x.shape
    shape = (batch, space, width, B.shape[-1]) if return_final_state else (0,)
    return x.new_empty(x.shape), x.new_empty(shape, dtype=accumulator(x))


def empty_like(like: Tensor, *tensors: Tensor | None) -> tuple[Tensor, ...]:
    """Allocate a contiguous gradient for each tensor, an empty one where there is none."""
    return tuple(
        like.new_empty(0) if tensor is None else tensor.new_empty(tensor.shape)
        for tensor in tensors
    )


def absent_to_none(grads: tuple[Tensor, ...]) -> tuple[Tensor | None, ...]:
    """Turn the empty gradients of absent arguments into None for autograd."""
    return tuple(grad if grad.numel() else None for grad in grads)


def register(forward: Operator, backward: Operator) -> None:
    """Give both ops their fakes and the forward op its gradient.

    ``forward`` takes the tensors of the reference's ``forward`` (the initial state is the last),
    then dt_softplus, reverse and return_final_state, and returns `empty_outputs`, filled.
    ``backward`` takes the gradients of the two, the second None if no state was returned, then
    the arguments of ``forward`` but the last, and returns `empty_like` of the tensors, filled.
    """

    @forward.register_fake
    def _(*arguments: Any) -> tuple[Tensor, Tensor]:
        return empty_outputs(arguments[0], arguments[3], arguments[-1])

    @backward.register_fake
    def _(grad_out: Tensor, grad_final_state: Tensor | None, *arguments: Any) -> Any:
        *tensors, _, _ = arguments
        return empty_like(tensors[0], *tensors)

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        *tensors, ctx.dt_softplus, ctx.reverse, ctx.return_final_state = inputs
        ctx.save_for_backward(*tensors)

    def gradients(ctx: Any, grad_out: Tensor, grad_final_state: Tensor) -> tuple[Any, ...]:
        grads = backward(
            grad_out,
            grad_final_state if ctx.return_final_state else None,
            *ctx.saved_tensors,
            ctx.dt_softplus,
            ctx.reverse,
        )
        return (*absent_to_none(grads), None, None, None)

    forward.register_autograd(gradients, setup_context=setup_context)
