"""Teaching new temporal mixers what the old ones do, layer by layer."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from unianimate.blocks import TemporalMamba, TemporalMamba2, TemporalTransformer
from unianimate.models import UniAnimate
from unianimate.models.unet3d import UNet3D
from unianimate.training.batch import Batch
from unianimate.training.config import TrainConfig
from unianimate.training.diffusion import DiffusionTask

_MIXERS = (TemporalMamba, TemporalMamba2, TemporalTransformer)


class DistillationTask(nn.Module):
    """Every new mixer sees what its old one saw, and is to answer alike.

    The old network runs on noised clips as in training. At each of its temporal mixers the new one
    runs on the same input; the squared error of its output, over the mean square of what the old
    mixer added to that input, is the loss of this layer, clip by clip: 1 for a mixer that adds
    nothing. So no
    layer depends on how far the others are.

    Args:
        teacher: the network with the old mixers, frozen.
        student: a network that differs from it in the mixers alone; they are trained in place.
        config: of the run.

    Raises:
        ValueError: both have the same mixers.
    """

    def __init__(self, teacher: UniAnimate, student: UniAnimate, config: TrainConfig) -> None:
        super().__init__()
        if teacher.config == student.config:
            raise ValueError(
                "stage distill: temporal must name other mixers than the model's, such as mamba"
            )
        # the teacher's own loss is of no use here
        plain = replace(config.diffusion, scheduled_sampling=0.0, pixel_weight=0.0)
        self.teacher = DiffusionTask(teacher, replace(config, diffusion=plain))
        self.teacher.requires_grad_(False)
        self.mixers = nn.ModuleList(mixer for _, mixer in temporal_mixers(student.unet))
        self.mixers.requires_grad_(True)

    def train(self, mode: bool = True) -> "DistillationTask":
        """Set the mode of the new mixers; the teacher always answers without dropout."""
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the mean loss of all layers, and each layer's under its name."""
        losses: dict[str, Tensor] = {}
        old = temporal_mixers(self.teacher.model.unet)
        hooks = [
            mixer.register_forward_hook(partial(self._compare, losses, name, new))
            for (name, mixer), new in zip(old, self.mixers)
        ]
        try:
            with torch.no_grad():
                self.teacher(batch)
        finally:
            for hook in hooks:
                hook.remove()
        layers = {f"layer/{name}": loss.detach() for name, loss in losses.items()}
        return {"loss": torch.stack(list(losses.values())).mean(), **layers}

    def _compare(
        self,
        losses: dict[str, Tensor],
        name: str,
        new: nn.Module,
        old: nn.Module,
        seen: tuple[Tensor, ...],
        answer: Tensor,
    ) -> None:
        """Run a new mixer on what the old one saw."""
        (x,) = seen
        with torch.enable_grad():
            if self.teacher.config.gradient_checkpointing:
                given = checkpoint(new, x, use_reentrant=False)
            else:
                given = new(x)
            # a mixer that adds nothing has nothing to teach; its loss stays finite
            added = _mean_square(answer - x).clamp(min=1e-12)
            losses[name] = (_mean_square(given - answer) / added).mean()


def temporal_mixers(unet: UNet3D) -> Iterator[tuple[str, nn.Module]]:
    """Yield name and module of every temporal mixer, in the order they run."""
    for name, module in unet.named_modules():
        if isinstance(module, _MIXERS):
            yield name, module


def _mean_square(x: Tensor) -> Tensor:
    """Return the mean square of every clip."""
    return x.float().square().mean(dim=(1, 2, 3, 4))
