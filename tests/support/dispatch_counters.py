"""What a computation costs besides arithmetic: copies of tensors, and memory held at once.

Both count under torch's dispatcher, where every op of the computation passes by.
"""

import traceback
import weakref
from collections import Counter
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_COPIES = {"aten.clone", "aten.copy_", "aten.contiguous", "aten._to_copy"}


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


class CopyCounter(TorchDispatchMode):
    """Counts copies of tensors and their bytes by the line of ours that asked for them.

    Attributes:
        copies: "file:line" -> [calls, bytes].
    """

    def __init__(self) -> None:
        super().__init__()
        self.copies: dict[str, list[int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if str(func).rsplit(".", 1)[0] in _COPIES and isinstance(result, Tensor):
            entry = self.copies.setdefault(_caller(), [0, 0])
            entry[0] += 1
            entry[1] += _bytes(result)
        return result


def _caller() -> str:
    for frame in reversed(traceback.extract_stack()):
        if "unianimate" in frame.filename and "dispatch_counters" not in frame.filename:
            return f"{frame.filename.rsplit('/', 2)[-2]}/{frame.name}:{frame.lineno}"
    return "elsewhere"


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of the tensors made inside that live at once.

    What was there before (weights, inputs) and what an op allocates and frees inside itself is not
    seen. Views share storage and count once.

    Attributes:
        live: bytes now.
        peak: most bytes at once.
        calls: op -> number of calls.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self.calls: Counter[str] = Counter()
        self._known: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for tensor in tree_leaves((args, kwargs)):
            if isinstance(tensor, Tensor):
                self._meet(tensor, made_here=False)
        result = func(*args, **(kwargs or {}))
        self.calls[str(func)] += 1
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._meet(tensor, made_here=True)
        self.peak = max(self.peak, self.live)
        return result

    def _meet(self, tensor: Tensor, *, made_here: bool) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return
        size = storage.nbytes() if made_here else 0
        self.live += size

        def gone(_: Any) -> None:
            self.live -= size
            del self._known[key]

        self._known[key] = weakref.ref(storage, gone)


def peak_bytes(function: Any) -> int:
    """Return the most bytes of tensors that a call holds at once, without gradients."""
    with torch.no_grad(), LiveBytes() as counter:
        function()
    return counter.peak
