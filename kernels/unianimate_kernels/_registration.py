"""Registration of kernels as torch ops: one form for all of them."""

from collections.abc import Callable
from typing import Any

import torch
from torch._C._functorch import peek_interpreter_stack
from torch.overrides import has_torch_function


class Operator:
    """An op of ``torch.library`` on one kernel that changes none of its arguments.

    It is what ``torch.library.custom_op`` makes, called with less Python: that form checks the
    results for aliases at every call (here ``opcheck`` does, in the tests), and always passes
    through autograd, which is Python too and dispatches a second time.
    """

    def __init__(self, name: str, kernel: Callable[..., Any]) -> None:
        self._name = name
        self._gradients: Callable[..., Any] | None = None
        self._setup_context: Callable[..., None] | None = None
        schema = torch.library.infer_schema(kernel, mutates_args=())
        torch.library.define(name, schema, tags=torch.Tag.pt2_compliant_tag)
        torch.library.register_kernel(name, None, kernel)
        # of every op: without it torch would only warn of a gradient that is not there
        torch.library.register_autograd(name, self._backward, setup_context=self._save)
        namespace, op = name.split("::")
        self._op = getattr(getattr(torch.ops, namespace), op).default

    def __call__(self, *arguments: Any) -> Any:
        """Call the op through the dispatcher, from autograd downwards only where it is needed.

        With gradients off autograd would just call what lies below it, where dispatch modes,
        subclasses, fakes and the profiler see the op. What traces, has transforms of its own or
        may turn gradients on before it calls the op gets the whole call.
        """
        if (
            torch.compiler.is_compiling()
            or torch.is_grad_enabled()
            or peek_interpreter_stack() is not None
            or has_torch_function(arguments)
        ):
            return self._op(*arguments)
        with torch._C._AutoDispatchBelowAutograd():
            return self._op(*arguments)

    def register_fake(self, fake: Callable[..., Any]) -> None:
        """Say what the results look like, without computing them."""
        torch.library.register_fake(self._name, fake)

    def register_autograd(
        self, gradients: Callable[..., Any], *, setup_context: Callable[..., None]
    ) -> None:
        """Give the op its gradient, in the terms of ``torch.library.register_autograd``."""
        self._gradients, self._setup_context = gradients, setup_context

    def _save(self, ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        if self._setup_context is not None:
            self._setup_context(ctx, inputs, output)

    def _backward(self, ctx: Any, *grads: Any) -> Any:
        if self._gradients is None:
            raise RuntimeError(
                f"trying to backward through {self._name}: no autograd formula was registered"
            )
        return self._gradients(ctx, *grads)


def operator(name: str) -> Callable[[Callable[..., Any]], Operator]:
    """Register a kernel, whose annotations are its schema, as the op ``namespace::name``."""
    return lambda kernel: Operator(name, kernel)
