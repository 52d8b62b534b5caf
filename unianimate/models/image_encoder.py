"""ImageEncoder: the reference photo as tokens for cross-attention."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from unianimate.models.checkpoints.files import load_weights, read_config, write_safetensors
from unianimate.models.configs import packaged_config

ImageTokens = Literal["projected", "patches"]
Photo = Image.Image | np.ndarray | Tensor

_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)
_WEIGHTS = "model.safetensors"


class ImageEncoder(nn.Module):
    """A thin wrapper over transformers' `CLIPVisionModelWithProjection`.

    Args:
        config: The configuration of a `CLIPVisionModelWithProjection`; None is the official
            ViT-H/14.
        tokens: "projected" gives the projected class token (K = 1), not normalised to length 1, as
            the official system uses it; "patches" gives every patch after the last norm and the
            projection (K = number of patches).

    Attributes:
        model: The `CLIPVisionModelWithProjection` itself.
    """

    def __init__(
        self, config: Mapping[str, Any] | None = None, *, tokens: ImageTokens = "projected"
    ) -> None:
        super().__init__()
        if tokens not in ("projected", "patches"):
            raise ValueError(
                f"ImageEncoder: tokens must be 'projected' or 'patches', got {tokens!r}"
            )
        self.config = dict(packaged_config("image_encoder") if config is None else config)
        self.tokens = tokens
        # transformers has no types that hold for its parts
        self.model: Any = _build(self.config)

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        *,
        tokens: ImageTokens = "projected",
        dtype: torch.dtype | None = None,
    ) -> "ImageEncoder":
        """Read a folder as transformers writes it: ``config.json`` and the weights.

        Raises:
            FileNotFoundError: If the folder has no ``config.json``.
            CheckpointError: If the weights are missing or do not fit the configuration.
        """
        folder = Path(folder)
        with torch.device("meta"):
            encoder = cls(read_config(folder / "config.json"), tokens=tokens)
        load_weights(encoder.model, folder / _WEIGHTS, dtype)
        return encoder.eval()

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a folder that `from_pretrained` and transformers read."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(self.config, indent=2) + "\n")
        write_safetensors(folder / _WEIGHTS, self.model.state_dict())

    def preprocess(self, photos: Photo | Sequence[Photo]) -> Tensor:
        """Stretch photos to the encoder's square and normalise them as CLIP wants.

        Bilinear with antialiasing, as PIL does it; the aspect ratio is not kept.

        Args:
            photos: One or more upright photos: PIL, or uint8 RGB (H, W, 3).

        Returns:
            (B, 3, S, S) float32 on the CPU.

        Raises:
            TypeError: If an array is not uint8.
            ValueError: If an array is not (H, W, 3).
        """
        several = photos if isinstance(photos, Sequence) else [photos]
        size = int(self.model.config.image_size)
        pixels = np.stack([_stretched(photo, size) for photo in several])
        scaled = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
        mean, std = (torch.tensor(x).view(3, 1, 1) for x in (_MEAN, _STD))
        return (scaled - mean) / std

    def forward(self, pixels: Tensor) -> Tensor:
        """Encode preprocessed pixels (B, 3, S, S) to tokens (B, K, D); gradients flow."""
        output = self.model.vision_model(pixel_values=pixels.to(self.model.dtype))
        if self.tokens == "projected":
            return self.model.visual_projection(output.pooler_output).unsqueeze(1)
        patches = self.model.vision_model.post_layernorm(output.last_hidden_state[:, 1:])
        return self.model.visual_projection(patches)

    @torch.no_grad()
    def encode(self, photos: Photo | Sequence[Photo]) -> Tensor:
        """Return the tokens (B, K, D) of original photos, in the dtype of the weights.

        Raises:
            TypeError: If an array is not uint8.
            ValueError: If an array is not (H, W, 3).
        """
        return self(self.preprocess(photos).to(self.model.device))

    def extra_repr(self) -> str:
        """Tell what the tokens are."""
        return f"tokens={self.tokens!r}"


def _build(config: Mapping[str, Any]) -> nn.Module:
    """Build the vision tower; its table of positions is real even on the meta device."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    model = CLIPVisionModelWithProjection(CLIPVisionConfig(**config))
    embeddings = model.vision_model.embeddings
    positions = torch.arange(embeddings.num_positions, device="cpu").unsqueeze(0)
    embeddings.register_buffer("position_ids", positions, persistent=False)
    return model


def _stretched(photo: Photo, size: int) -> np.ndarray:
    """Return a photo as uint8 (size, size, 3)."""
    if not isinstance(photo, Image.Image):
        array = np.asarray(photo)
        if array.dtype != np.uint8:
            raise TypeError(f"ImageEncoder: photos must be PIL or uint8, got {array.dtype}")
        if array.ndim != 3 or array.shape[2] != 3:
            raise ValueError(f"ImageEncoder: a photo must be (H, W, 3), got {array.shape}")
        photo = Image.fromarray(array)
    return np.asarray(photo.convert("RGB").resize((size, size), Image.Resampling.BILINEAR))
