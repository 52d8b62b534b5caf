"""Low-rank updates of frozen weights, which are added to them when a model is written."""

import math
import re
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


class LowRankUpdate(nn.Module):
    """W + scale up down, of a matrix or of a convolution seen as one (LoRA, arXiv 2106.09685).

    It changes nothing at first, because ``up`` starts at zero.

    Args:
        weight: W, (out, ...).
        rank: of the update; at most what W's shape allows.
        scale: what the update is multiplied by.
    """

    def __init__(self, weight: Tensor, rank: int, scale: float) -> None:
        super().__init__()
        out, into = weight.shape[0], weight[0].numel()
        rank = min(rank, out, into)
        self.scale = scale
        self.down = nn.Parameter(torch.empty(rank, into))
        self.up = nn.Parameter(torch.zeros(out, rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the updated weight."""
        return weight + (self.scale * self.up @ self.down).view(weight.shape).to(weight.dtype)


def add_lora(model: nn.Module, names: Sequence[str], rank: int, scale: float) -> None:
    """Freeze a model and let updates of its chosen weights be trained.

    Args:
        model: changed in place; `merge_lora` gives it its names back.
        names: regular expressions for names of weights; those with less than two axes are left
            out.
        rank: of the updates.
        scale: what they are multiplied by.

    Raises:
        ValueError: an expression matches no weight of two or more axes.
    """
    chosen = [
        (f"{path}.weight", module)
        for path, module in model.named_modules()
        if isinstance(getattr(module, "weight", None), nn.Parameter) and module.weight.dim() > 1
    ]
    for expression in names:
        if not any(re.match(expression, name) for name, _ in chosen):
            raise ValueError(f"diffusion.train: no weight for LoRA has a name like {expression!r}")
    model.requires_grad_(False)
    for name, module in chosen:
        if any(re.match(expression, name) for expression in names):
            weight = module.weight
            assert isinstance(weight, Tensor)
            # unsafe skips a trial run; the update keeps shape and dtype
            update = LowRankUpdate(weight, rank, scale)
            parametrize.register_parametrization(module, "weight", update, unsafe=True)
            module.parametrizations.weight.original.requires_grad_(False)


@torch.no_grad()
def merge_lora(model: nn.Module) -> None:
    """Add the updates to their weights; the model has its own names again."""
    for module in list(model.modules()):
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
