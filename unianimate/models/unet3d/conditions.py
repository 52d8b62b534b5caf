"""What a UNet3D is told besides the noise: encoded once, used at every step."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor

from unianimate.blocks import PoseEncoder


class ConditionTensors(NamedTuple):
    """What one forward of the network reads.

    Attributes:
        frames: (B, condition_channels, F, h, w), beside the noisy latents of each frame.
        reference: (B, in + condition channels, 1, h, w), the frame before them.
        context: (B, L, context_dim), text tokens, then image tokens.
    """

    frames: Tensor
    reference: Tensor
    context: Tensor

    def expanded(self, batch: int) -> "ConditionTensors":
        """Repeat conditions of one item for a batch, without a copy.

        Raises:
            ValueError: they are of another batch size.
        """
        own = max(t.shape[0] for t in self)
        if own not in (1, batch):
            raise ValueError(f"UNet3D: conditions are for a batch of {own}, the sample has {batch}")
        return ConditionTensors(*(t.expand(batch, *t.shape[1:]) for t in self))


def join(parts: Sequence["Conditions"], batch: int) -> ConditionTensors:
    """Stack conditions along the batch, each for `batch` items, to run them as one.

    Raises:
        ValueError: batch sizes, sizes or numbers of tokens differ.
    """
    expanded = [part.tensors.expanded(batch) for part in parts]
    lengths = [tensors.context.shape[1] for tensors in expanded]
    if len(set(lengths)) > 1:
        raise ValueError(f"UNet3D: conditions to run as one have different text lengths: {lengths}")
    return ConditionTensors(*(torch.cat(tensors) for tensors in zip(*expanded)))


@dataclass(frozen=True, eq=False)
class Conditions:
    """Everything a `UNet3D` is told about a video, besides the noise and the timestep.

    Made by `UNet3D.encode_conditions`. What works frame by frame is done; the temporal adapter of
    the poses runs when it is first needed, on the frames that the network then sees at once.

    Attributes:
        text: (1 or B, L, context_dim).
        image: (B, num_tokens, context_dim), zeros where there is no image.
        reference: (B, in + condition channels, 1, h, w), zeros where there is no reference.
        first_frame: (B, condition_channels, 1, h, w), told to all frames, or None.
        pose: (B, condition_channels, F, h, w), poses before their temporal adapter, or None.
        pose_encoder: the encoder that mixes them.
        num_frames: F.
        condition_channels: channels of poses and first frame.
        reference_in_every_frame: add the reference's share of these channels to all frames.
        pose_kept: (B,) of 1 and 0, which items keep their poses; None keeps all.
    """

    text: Tensor
    image: Tensor
    reference: Tensor
    first_frame: Tensor | None
    pose: Tensor | None
    pose_encoder: PoseEncoder
    num_frames: int
    condition_channels: int
    reference_in_every_frame: bool = False
    pose_kept: Tensor | None = None
    _made: dict[bool, ConditionTensors] = field(default_factory=dict, init=False, repr=False)

    @property
    def tensors(self) -> ConditionTensors:
        """What the network reads, made at the first call, and anew where gradients are wanted."""
        # not a cached_property: torch.compile cannot trace its lock
        grad = torch.is_grad_enabled()
        if grad not in self._made:
            self._made[grad] = self._made.get(True) or self._make()
        return self._made[grad]

    def _make(self) -> ConditionTensors:
        batch = max(self.text.shape[0], self.image.shape[0])
        text, image = (t.expand(batch, -1, -1) for t in (self.text, self.image))
        return ConditionTensors(self._frames(), self.reference, torch.cat([text, image], dim=1))

    def _frames(self) -> Tensor:
        size = (1, self.condition_channels, self.num_frames, *self.reference.shape[3:])
        total = self.reference.new_zeros(()).expand(size)
        if self.pose is not None:
            total = self.pose_encoder.mix(self.pose)
            if self.pose_kept is not None:
                total = total * self.pose_kept.view(-1, 1, 1, 1, 1)
        if self.first_frame is not None:
            total = total + self.first_frame
        if self.reference_in_every_frame:
            total = total + self.reference[:, -self.condition_channels :]
        return total

    def select(self, frames: Sequence[int] | Tensor) -> "Conditions":
        """Return the conditions of a window; equal to those of the cut poses.

        Args:
            frames: indices in 0 .. F-1, in the order the network shall see them.

        Raises:
            ValueError: an index is out of range, or there is none.
        """
        index = torch.as_tensor(frames, dtype=torch.int64, device=self.reference.device)
        if index.dim() != 1 or index.numel() == 0:
            raise ValueError("Conditions.select: frames must be a list of at least one index")
        low, high = int(index.min()), int(index.max())
        if low < 0 or high >= self.num_frames:
            raise ValueError(
                f"Conditions.select: frames must be in 0 .. {self.num_frames - 1}, "
                f"got {low} .. {high}"
            )
        pose = self.pose
        if pose is not None:
            last = pose.permute(0, 2, 3, 4, 1).index_select(1, index)
            pose = last.permute(0, 4, 1, 2, 3)
        return replace(self, pose=pose, num_frames=index.numel())

    def dropped(
        self,
        generator: torch.Generator | None = None,
        *,
        p: float = 0.5,
        p_all_zero: float = 0.1,
        p_all_keep: float = 0.1,
    ) -> "Conditions":
        """Drop conditions of random items, for training with classifier-free guidance.

        Some items lose poses, first frame and image tokens together, some keep all; among the
        others each of the three is dropped on its own. What is dropped becomes zero. Text and
        reference always stay.

        Args:
            generator: on the CPU.
            p: share of items that lose a condition.
            p_all_zero: share of items that lose all three.
            p_all_keep: share of items that keep all three.
        """
        batch = max(self.text.shape[0], self.image.shape[0])
        kept = draw_kept(batch, generator, p=p, p_all_zero=p_all_zero, p_all_keep=p_all_keep)
        return self.keeping(kept)

    def keeping(self, kept: "Kept") -> "Conditions":
        """Zero the conditions of the items that do not keep them."""
        first_frame, pose, image, reference = (mask.to(self.reference) for mask in kept)
        return replace(
            self,
            reference=self.reference * reference.view(-1, 1, 1, 1, 1),
            first_frame=None
            if self.first_frame is None
            else self.first_frame * first_frame.view(-1, 1, 1, 1, 1),
            pose_kept=pose if self.pose_kept is None else pose * self.pose_kept,
            image=self.image * image.view(-1, 1, 1),
        )


class Kept(NamedTuple):
    """Which items keep a condition: 1 or 0, (B,) each."""

    first_frame: Tensor
    pose: Tensor
    image: Tensor
    reference: Tensor


def draw_kept(
    batch: int,
    generator: torch.Generator | None = None,
    *,
    p: float = 0.5,
    p_all_zero: float = 0.1,
    p_all_keep: float = 0.1,
) -> Kept:
    """Draw which of the items of a batch keep which conditions, see `Conditions.dropped`."""
    zero, free = _draw_roles(batch, p_all_zero, p_all_keep, generator)

    def one() -> Tensor:
        wanted = int((torch.rand(batch, generator=generator) < p).sum())
        chosen = free[torch.randperm(len(free), generator=generator)[:wanted]]
        mask = torch.ones(batch)
        mask[torch.cat([zero, chosen])] = 0
        return mask

    return Kept(first_frame=one(), pose=one(), image=one(), reference=torch.ones(batch))


def _draw_roles(
    batch: int, p_all_zero: float, p_all_keep: float, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """Return the items that lose everything and those that are free to lose one thing."""
    zeros = int((torch.rand(batch, generator=generator) < p_all_zero).sum())
    keeps = int((torch.rand(batch, generator=generator) < p_all_keep).sum())
    order = torch.randperm(batch, generator=generator)
    return order[:zeros], order[zeros + keeps :]


def check_latent_size(size: tuple[int, ...], levels: int) -> None:
    """Check that a size (h, w) of latents can be halved at every level.

    Raises:
        ValueError: if not; the message speaks of pixels.
    """
    multiple = 2 ** (levels - 1)
    if len(size) != 2 or any(n < 1 or n % multiple for n in size):
        raise ValueError(
            f"UNet3D: height and width must be multiples of {8 * multiple} pixels ({multiple} "
            f"latents) for {levels} levels, got latent_size {size}"
        )


def check_conditions(given: Mapping[str, tuple[Tensor | None, tuple[int | str, ...]]]) -> int:
    """Check shapes, and return the batch size they share.

    Args:
        given: name -> the tensor and its wanted shape behind the batch axis; a word is any size.

    Raises:
        ValueError: a shape does not fit, or batch sizes differ (one item of text serves all).
    """
    batches: dict[str, int] = {}
    for name, (tensor, wanted) in given.items():
        if tensor is None:
            continue
        fits = tensor.dim() == len(wanted) + 1 and all(
            isinstance(want, str) or size == want for size, want in zip(tensor.shape[1:], wanted)
        )
        if not fits:
            raise ValueError(
                f"UNet3D.encode_conditions: {name} must be (B, {', '.join(map(str, wanted))}), "
                f"got {tuple(tensor.shape)}"
            )
        batches[name] = tensor.shape[0]
    text = batches.pop("text_embeds")
    sizes = set(batches.values()) | ({text} if text > 1 or not batches else set())
    if len(sizes) != 1:
        raise ValueError(
            f"UNet3D.encode_conditions: batch sizes differ: text_embeds {text}, "
            + ", ".join(f"{name} {size}" for name, size in batches.items())
        )
    return sizes.pop()
