"""What the native and the Triton form share: fakes and the wiring of autograd."""

from typing import Any

from torch import Tensor

from .._registration import Operator
from ..selective_scan._autograd import absent_to_none, empty_like


def register(forward: Operator, backward: Operator) -> None:
    """Give both ops their fakes and the forward op its gradient.

    ``forward`` takes the tensors of the public op (a ``*_reverse`` that is shared is None), then
    dt_softplus. ``backward`` takes the gradient of the output and the same, and returns
    `empty_like` of the tensors, filled.
    """

    @forward.register_fake
    def _(x: Tensor, *_: Any) -> Tensor:
        return x.new_empty(x.shape)

    @backward.register_fake
    def _(grad_out: Tensor, *inputs: Any) -> Any:
        *tensors, _ = inputs
        return empty_like(tensors[0], *tensors)

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *tensors, ctx.dt_softplus = inputs
        ctx.save_for_backward(*tensors)

    def gradients(ctx: Any, grad_out: Tensor) -> tuple[Any, ...]:
        return (*absent_to_none(backward(grad_out, *ctx.saved_tensors, ctx.dt_softplus)), None)

    forward.register_autograd(gradients, setup_context=setup_context)
