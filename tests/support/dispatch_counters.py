"""The ops of a computation and its copies of tensors, as torch's dispatcher sees them."""

import traceback
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_COPIES = {"aten.clone", "aten.copy_", "aten.contiguous", "aten._to_copy"}


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


class OpNames(TorchDispatchMode):
    """Notes the names of ops.

    Attributes:
        seen: the names in order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


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
