"""What the ops of whole layers cannot take natively: they have no gradient."""

from collections.abc import Iterable

import torch
from torch import Tensor


def refusal(tensors: Iterable[Tensor]) -> str | None:
    """Return why a form without a gradient cannot take a call on these tensors, or None."""
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        return "it has no gradient: call it under torch.no_grad(), or take the reference"
    return None
