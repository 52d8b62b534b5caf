"""What the native and the Triton form share: results to fill, fakes, and the wiring of autograd."""

from typing import Any, NamedTuple

from torch import Tensor

from .._registration import Operator
from ..selective_scan.reference import accumulator


class Gradients(NamedTuple):
    """Gradients of the tensor arguments, in their order; empty where an argument is absent."""

    x: Tensor
    dt: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor
    z: Tensor
    dt_bias: Tensor
    initial_state: Tensor


def empty_outputs(x: Tensor, B: Tensor, return_final_state: bool) -> tuple[Tensor, Tensor]:
    """Return an output like ``x`` and a final state (B, S, H, P, N), empty if not asked for."""
    batch, _, space, heads, width = x.shape
    shape = (batch, space, heads, width, B.shape[4]) if return_final_state else (0,)
    return x.new_empty(x.shape), x.new_empty(shape, dtype=accumulator(x))


def empty_gradients(
    x: Tensor,
    dt: Tensor,
    B: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    initial_state: Tensor | None,
) -> Gradients:
    """Return tensors for all gradients; those of A, D and dt_bias have a row a location."""
    dtype = accumulator(x)
    batch, _, space, heads, _ = x.shape

    def rows(present: bool) -> Tensor:
        return x.new_empty((batch * space, heads) if present else (0, heads), dtype=dtype)

    return Gradients(
        x=x.new_empty(x.shape),
        dt=x.new_empty(dt.shape),
        A=rows(True),
        B=x.new_empty(B.shape),
        C=x.new_empty(B.shape),
        D=rows(D is not None),
        z=x.new_empty((0,) if z is None else z.shape),
        dt_bias=rows(dt_bias is not None),
        initial_state=x.new_empty(
            (0,) if initial_state is None else initial_state.shape, dtype=dtype
        ),
    )


def summed(gradients: Gradients) -> Gradients:
    """Sum the rows of A's, D's and dt_bias's gradients over the locations."""
    return gradients._replace(
        A=gradients.A.sum(0), D=gradients.D.sum(0), dt_bias=gradients.dt_bias.sum(0)
    )


def register(forward: Operator, backward: Operator) -> None:
    """Give both ops their fakes and the forward op its gradient.

    ``forward`` takes the arguments of the reference's ``forward`` and returns `empty_outputs`,
    filled. ``backward`` takes the gradients of the two, either of them None if there is none, then
    the arguments of ``forward`` but the last, and returns `summed` `Gradients`.
    """

    @forward.register_fake
    def _(*arguments: Any) -> tuple[Tensor, Tensor]:
        return empty_outputs(arguments[0], arguments[3], arguments[12])

    @backward.register_fake
    def _(grad: Any, grad_state: Any, *arguments: Any) -> tuple[Tensor, ...]:
        x, dt, _, B, _, D, z, dt_bias, *_, initial_state = arguments
        return tuple(summed(empty_gradients(x, dt, B, D, z, dt_bias, initial_state)))

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        *tensors, ctx.softplus, ctx.reverse, ctx.chunk_size, initial_state, _ = inputs
        ctx.save_for_backward(*tensors, initial_state)
        ctx.set_materialize_grads(False)

    def gradients(ctx: Any, grad: Tensor | None, grad_state: Tensor | None) -> tuple[Any, ...]:
        *tensors, initial_state = ctx.saved_tensors
        if grad_state is not None and not grad_state.numel():
            grad_state = None  # nobody asked for the final state
        if grad is None:
            grad = tensors[0].new_zeros(tensors[0].shape)
        found = backward(
            grad, grad_state, *tensors, ctx.softplus, ctx.reverse, ctx.chunk_size, initial_state
        )
        present = [*(t is not None for t in tensors), initial_state is not None]
        *of_tensors, of_state = (g if is_there else None for g, is_there in zip(found, present))
        return (*of_tensors, None, None, None, of_state, None)

    forward.register_autograd(gradients, setup_context=setup_context)
