"""The most bytes a computation holds at once: counted on a CPU, told by the allocator on a GPU."""

import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of the tensors made inside that live at once, by torch's dispatcher.

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
        """Run one op and count what it made."""
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


def peak_bytes(function: Callable[[], object], device: torch.device | str = "cpu") -> int:
    """Return the most bytes of tensors that a call holds at once, besides what was there before.

    On a GPU by the allocator, which sees the workspaces of ops too; elsewhere by `LiveBytes`.

    Args:
        function: the call; wrap it in `torch.no_grad` to measure inference.
        device: where it computes.
    """
    device = torch.device(device)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        function()
        torch.cuda.synchronize(device)
        return int(torch.cuda.max_memory_allocated(device)) - before
    with LiveBytes() as counter:
        function()
    return counter.peak
