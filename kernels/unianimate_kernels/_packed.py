"""Weights that native ops have packed, kept from call to call where somebody says so."""

import ctypes
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import Parameter

from . import _library

# what is kept at most: a large network's weights may not fit into memory twice
_MOST_BYTES = 1024**3


class Packed(ctypes.Structure):
    """``ua_packed`` of csrc/api.h, and the memory that it points to."""

    _fields_: ClassVar = [
        ("data", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("size", "kept", "filled")),
    ]
    memory: Tensor


def _packed_in(memory: Tensor, *, kept: bool, filled: bool) -> Packed:
    described = Packed(memory.data_ptr(), memory.nbytes, kept, filled)
    described.memory = memory
    return described


class _Kept(threading.local):
    """What a thread keeps: packed weights, and the weights, so that their addresses stay theirs."""

    scopes = 0

    def __init__(self) -> None:
        self.entries: dict[object, tuple[Tensor, Sequence[Tensor]]] = {}
        # of `_repeated`: calls with them, and the last one that was made
        self.calls: dict[object, Any] = {}
        self.made: Any = None

    def bytes(self) -> int:
        return sum(memory.nbytes for memory, _ in self.entries.values())

    def clear(self) -> None:
        self.entries.clear()
        self.calls.clear()
        self.made = None


kept = _Kept()


@contextmanager
def keep_packed_weights() -> Iterator[None]:
    """Keep the weights that native ops pack, in this thread, until the block ends.

    These ops read weights in an order of their own, and put them into it at every call; inside the
    block a parameter is packed once. It is packed anew after a change that torch counts, as all are
    but those through ``.data`` or foreign code: make none of these inside the block. Kept are up
    to 1 GiB, of ``nn.Parameter`` alone. With gradients off, a call like an earlier one but for the
    values of its inputs is made without its checks.
    """
    kept.scopes += 1
    try:
        yield
    finally:
        kept.scopes -= 1
        if not kept.scopes:
            kept.clear()


@contextmanager
def packed(
    op: str, weights: Sequence[Tensor], size: int, *form: int, at_once: int | None = None
) -> Iterator[Packed]:
    """Give a call of an op memory for its weights, in which they may lie already.

    Args:
        op: its name.
        weights: what it packs.
        size: bytes of all of them.
        form: what else decides how they lie.
        at_once: bytes that are enough where none are kept; None means all.
    """
    key = (op, size, form, _library.cpu_level, *map(_state, weights)) if keeps(weights) else None
    memory, _ = kept.entries.get(key, (None, None))
    if memory is not None:
        yield _packed_in(memory, kept=True, filled=True)
        return
    keep = key is not None and kept.bytes() + size <= _MOST_BYTES
    if not keep and at_once is not None:
        size = at_once
    memory = weights[0].new_empty(size, dtype=torch.uint8)
    yield _packed_in(memory, kept=keep, filled=False)
    # not where the call has failed
    if keep:
        kept.entries[key] = memory, weights


def keeps(weights: Sequence[Tensor]) -> bool:
    """Return whether an op's packed weights outlive its call, if there is room."""
    if not kept.scopes:
        return False
    # which a compiler cannot trace, and has no such parameters
    compiling = torch.compiler.is_compiling()
    return all(type(w) is Parameter and (compiling or not w.is_inference()) for w in weights)


def _state(weight: Tensor) -> tuple[int, int, int]:
    # while it is kept, no other tensor has its identity
    return id(weight), weight.data_ptr(), weight._version
