"""The two predictions of classifier-free guidance."""

import torch
from torch import Tensor

from unianimate.models.unet3d.conditions import Conditions, join
from unianimate.models.unet3d.model import UNet3D


def predict_both(
    net: UNet3D,
    sample: Tensor,
    timestep: Tensor,
    conditional: Conditions,
    unconditional: Conditions,
    *,
    low_memory: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return the conditional and the unconditional prediction for one sample.

    Args:
        net: the network.
        sample: (B, C, F, h, w).
        timestep: (B,) int64.
        conditional: conditions of what is wanted.
        unconditional: conditions of nothing, with as many tokens.
        low_memory: run the network twice on B items, not once on 2 B; the same result.

    Returns:
        Two tensors (B, C, F, h, w).
    """
    if low_memory:
        return net(sample, timestep, conditional), net(sample, timestep, unconditional)
    tensors = join([conditional, unconditional], sample.shape[0])
    both = net(torch.cat([sample, sample]), torch.cat([timestep, timestep]), tensors)
    wanted, nothing = both.chunk(2)
    return wanted, nothing
