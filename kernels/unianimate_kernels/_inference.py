"""What the ops of whole layers cannot take natively, or not as it comes."""

from collections.abc import Iterable

import torch
from torch import Tensor

from ._library import bfloat16_products


def refusal(tensors: Iterable[Tensor]) -> str | None:
    """Return why a form without a gradient cannot take a call on these tensors, or None."""
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        return "it has no gradient: call it under torch.no_grad(), or take the reference"
    return None


def computes_in(dtype: torch.dtype, *sizes: int) -> bool:
    """Return whether these layers are computed in a dtype, else in float32.

    bfloat16 is multiplied in pairs: that takes a CPU which can, and sums over even sizes.
    """
    even = not any(size % 2 for size in sizes)
    return dtype == torch.float32 or (even and bfloat16_products())
