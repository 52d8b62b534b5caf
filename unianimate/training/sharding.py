"""Weights spread over processes (FSDP2), and put together again for files."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from unianimate.models import VAE, ImageEncoder
from unianimate.models.unet3d.levels import Middle, UNetBlock


def shard(task: nn.Module) -> None:
    """Spread the parameters of a task over all processes, in place.

    Every block of a network is gathered when it computes; what is around the blocks stays gathered
    for a whole step. Parts that are frozen and no network, the VAE and the image encoder, stay
    whole in every process. Parameters become `DTensor`s: take them after this call.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    device = next(task.parameters()).device.type
    mesh = init_device_mesh(device, (dist.get_world_size(),))
    frozen = {
        parameter
        for part in task.modules()
        if isinstance(part, (VAE, ImageEncoder))
        and not any(p.requires_grad for p in part.parameters())
        for parameter in part.parameters()
    }
    for part in list(task.modules()):
        if isinstance(part, (UNetBlock, Middle)):
            fully_shard(part, mesh=mesh)
    fully_shard(task, mesh=mesh, ignored_params=frozen)


@contextmanager
def gathered(task: Any) -> Iterator[None]:
    """Use parts of a task outside of its forward; nothing changes for one that is not spread."""
    if not hasattr(task, "unshard"):
        yield
        return
    task.unshard()
    try:
        yield
    finally:
        task.reshard()


def whole(tensor: Any) -> Any:
    """Return a tensor put together from all processes, or anything else as it is.

    All processes must call it.
    """
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def whole_state(state: Any) -> Any:
    """Return nested dictionaries and lists with every tensor `whole`, in main memory."""
    if isinstance(state, dict):
        return {key: whole_state(value) for key, value in state.items()}
    if isinstance(state, list):
        return [whole_state(value) for value in state]
    return whole(state).detach().cpu() if isinstance(state, Tensor) else state


def like(tensor: Tensor, parameter: Any) -> Tensor:
    """Return a whole tensor spread as a parameter of its shape is; others stay as they are."""
    if not hasattr(parameter, "device_mesh") or tensor.shape != parameter.shape:
        return tensor
    from torch.distributed.tensor import distribute_tensor

    moved = tensor.to(parameter.device)
    return distribute_tensor(moved, parameter.device_mesh, parameter.placements)


def load_optimizer(
    optimizer: torch.optim.Optimizer, state: dict[str, Any], parameters: list[nn.Parameter]
) -> None:
    """Load the whole state of an optimizer, spread as its parameters are; settings stay its own."""
    spread = {
        number: {
            name: like(value, parameters[number]) if isinstance(value, Tensor) else value
            for name, value in values.items()
        }
        for number, values in state["state"].items()
    }
    settings = [
        {name: value for name, value in group.items() if name != "params"}
        for group in optimizer.param_groups
    ]
    optimizer.load_state_dict({**state, "state": spread})
    for group, own in zip(optimizer.param_groups, settings):
        group.update(own)
