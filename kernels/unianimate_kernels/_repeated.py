"""Calls made again without what an earlier one has checked and planned.

Inside `keep_packed_weights` a network calls its ops with the same weights again and again, on
inputs of the same shapes. Between native calls, whose numbers fill the caches, the Python of a call
takes four times as long as on its own: as long as the work on small pictures. So the argument block
of a call is kept, and one that differs only in where its inputs are is made with that.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, ParamSpec

import torch
from torch import Tensor
from torch._C._functorch import peek_interpreter_stack
from torch.nn import Parameter

from . import _library
from ._dispatch import bound
from ._packed import kept

P = ParamSpec("P")


class _Made(NamedTuple):
    """A call of the library with weights that are kept."""

    entry: str
    arguments: Any  # with `y`, `workspace` and the inputs of these names
    inputs: tuple[str, ...]
    size: int  # bytes of the workspace
    alive: object  # holds what the arguments point to


class _Repeatable(NamedTuple):
    """A call that can be made again on other inputs."""

    made: _Made
    weights: list[Tensor]  # while they are held, no others have their identities
    states: list[tuple[int, int]]
    y: tuple[torch.Size, tuple[int, ...], torch.dtype]

    def call(self, inputs: Iterable[Tensor]) -> Tensor:
        shape, stride, dtype = self.y
        y = torch.empty_strided(shape, stride, dtype=dtype)
        workspace = y.new_empty(self.made.size, dtype=torch.uint8)
        arguments = type(self.made.arguments).from_buffer_copy(self.made.arguments)
        for name, tensor in zip(self.made.inputs, inputs, strict=True):
            getattr(arguments, name).data = tensor.data_ptr()
        arguments.y.data, arguments.workspace = y.data_ptr(), workspace.data_ptr()
        _library.call(self.made.entry, arguments, y)
        return y


def call(
    entry: str, arguments: Any, x: Tensor, *, inputs: tuple[str, ...], size: int, alive: object
) -> None:
    """Call the library, and note it for `repeated`.

    Args:
        entry: of the library.
        arguments: its argument block, complete but for ``workspace``.
        x: an input.
        inputs: names of all inputs in the block, in the order of the op, beside its ``y``.
        size: bytes of the workspace.
        alive: holds all else that the block points to.

    Raises:
        RuntimeError: the library refused.
    """
    workspace = x.new_empty(size, dtype=torch.uint8)
    arguments.workspace = workspace.data_ptr()
    _library.call(entry, arguments, x)
    if arguments.packed.kept:
        arguments.packed.filled = True
        kept.made = _Made(entry, arguments, inputs, size, alive)


def repeated(op: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """Let calls of an op be made again, where nothing watches the calls of torch."""
    name = op.__name__

    @functools.wraps(op)
    def repeat(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        if torch.compiler.is_compiling() or not kept.scopes or _watched():
            return op(*args, **kwargs)
        weights: list[Tensor] = []
        inputs: list[Tensor] = []
        # these too decide what an argument block has in it
        process = (bound().get(name), torch.get_num_threads(), _library.cpu_level)
        key: list[object] = [name, *process, *kwargs]
        if not _sort((*args, *kwargs.values()), weights, inputs, key):
            return op(*args, **kwargs)
        whole = (*key, *map(id, weights))
        states = [(weight.data_ptr(), weight._version) for weight in weights]
        earlier = kept.calls.get(whole)
        if earlier is not None and earlier.states == states:
            return earlier.call(inputs)
        kept.made = None
        y = op(*args, **kwargs)
        made, kept.made = kept.made, None
        if made is not None and _serves(made, inputs, y):
            kept.calls[whole] = _Repeatable(made, weights, states, (y.shape, y.stride(), y.dtype))
        return y

    return repeat


def _watched() -> bool:
    """Return whether a call may not go past torch's dispatcher."""
    return bool(
        torch.is_grad_enabled()
        or torch._C._len_torch_dispatch_stack()
        or torch._C._len_torch_function_stack()
        or torch._C._get_tracing_state()
        or torch._C._autograd._profiler_enabled()
        or peek_interpreter_stack() is not None
    )


def _sort(
    values: Iterable[Any], weights: list[Tensor], inputs: list[Tensor], key: list[object]
) -> bool:
    """Sort arguments into weights, inputs, and what the other arguments and shapes are."""
    for value in values:
        kind = type(value)
        if kind is Parameter and not value.is_inference():
            weights.append(value)
        elif kind is Tensor and value.is_cpu:
            inputs.append(value)
            key += (value.shape, value.stride(), value.dtype)
        elif kind in (list, tuple):
            key.append(len(value))
            if not _sort(value, weights, inputs, key):
                return False
        elif kind in (int, float, str, bool) or value is None:
            key.append(value)
        else:
            return False
    return True


def _serves(made: _Made, inputs: list[Tensor], y: Tensor) -> bool:
    """Return whether it took the inputs where they are and its result is y."""
    names, tensors = (*made.inputs, "y"), (*inputs, y)
    return len(names) == len(tensors) and all(
        getattr(made.arguments, name).data == tensor.data_ptr()
        for name, tensor in zip(names, tensors)
    )
