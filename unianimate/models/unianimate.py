"""UniAnimate: the whole model, as it is built, stored and put on devices."""

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from unianimate.models.checkpoints.files import (
    CheckpointError,
    load_weights,
    only_tensors,
    read_checkpoint,
    read_config,
    write_safetensors,
)
from unianimate.models.config import UniAnimateConfig
from unianimate.models.devices import default_device, default_dtype
from unianimate.models.folders import model_folder
from unianimate.models.image_encoder import ImageEncoder
from unianimate.models.unet3d import UNet3D
from unianimate.models.vae import VAE

Part = Literal["unet", "vae", "image_encoder"]


class UniAnimate(nn.Module):
    """A network with everything around it: VAE, image encoder, the tokens of the empty text.

    `from_pretrained` reads a model folder; ``UniAnimate(PRESETS["small"])`` builds one with random
    weights, to train it. Only the parts compute; the loop around them is a pipeline's.

    Args:
        config: sizes of all parts.

    Attributes:
        config: the same.
        unet: `UNet3D`.
        vae: `VAE`.
        image_encoder: `ImageEncoder`.
        text_embeds: (1, text_tokens, context_dim), a parameter.
    """

    def __init__(self, config: UniAnimateConfig) -> None:
        super().__init__()
        self.config = config
        self.unet = UNet3D(config.unet)
        self.vae = VAE(config.vae)
        self.image_encoder = ImageEncoder(config.image_encoder, tokens=config.unet.image_tokens)
        shape = (1, config.text_tokens, config.unet.context_dim)
        self.text_embeds = nn.Parameter(torch.randn(shape))
        self._offload_to: torch.device | None = None

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        offload: bool = False,
    ) -> "UniAnimate":
        """Read a model folder.

        Args:
            model: a folder or a name, see `model_folder`.
            device: where it computes; None takes the GPU if there is one.
            dtype: of the network; None takes what the device is good at, see `default_dtype`. VAE
                and image encoder are float32, as in the official system.
            offload: keep the parts in main memory and put one at a time on the device.

        Returns:
            The model in evaluation mode.

        Raises:
            FileNotFoundError: there is no such model, or a part of it is missing.
            CheckpointError: weights are damaged or do not fit the configuration.
            pydantic.ValidationError: ``config.json`` does not describe a model.
        """
        folder = model_folder(model)
        device = default_device() if device is None else torch.device(device)
        dtype = default_dtype(device) if dtype is None else dtype
        config = UniAnimateConfig.from_dict(read_config(folder / "config.json"))
        with torch.device("meta"):
            whole = cls(config)
        load_weights(whole.unet, folder / "unet" / "model.safetensors", dtype)
        whole.vae = VAE.from_pretrained(folder / "vae", dtype=torch.float32)
        whole.image_encoder = ImageEncoder.from_pretrained(
            folder / "image_encoder", tokens=config.unet.image_tokens, dtype=torch.float32
        )
        whole.text_embeds = nn.Parameter(_read_text(folder / "empty_text.safetensors", config))
        whole.eval()
        return whole.offload(device) if offload else whole.to(device)

    def save_pretrained(self, folder: str | Path, *, dtype: torch.dtype | None = None) -> None:
        """Write a model folder that `from_pretrained` reads.

        Args:
            folder: made if it is not there.
            dtype: of all weights in the files; None leaves every part as it is.
        """
        if dtype is not None:
            half = copy.deepcopy(self).to(dtype)
            half.save_pretrained(folder)
            return
        folder = Path(folder)
        (folder / "unet").mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(self.config.to_dict(), indent=2) + "\n")
        write_safetensors(folder / "unet" / "model.safetensors", self.unet.state_dict())
        self.vae.save_pretrained(folder / "vae")
        self.image_encoder.save_pretrained(folder / "image_encoder")
        write_safetensors(folder / "empty_text.safetensors", {"text_embeds": self.text_embeds})

    @property
    def device(self) -> torch.device:
        """Where the parts compute; with `offload`, not where they rest."""
        return self._offload_to or self.unet.conv_in.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the network."""
        return self.unet.conv_in.weight.dtype

    def offload(self, device: torch.device | str) -> "UniAnimate":
        """Rest in main memory; `using` puts one part at a time on `device`. Returns itself."""
        self.to("cpu")
        self._offload_to = torch.device(device)
        return self

    @contextmanager
    def using(self, part: Part) -> Iterator[nn.Module]:
        """Lend a part, on the device where it computes.

        Without `offload` it is there anyway.

        Raises:
            ValueError: there is no such part.
        """
        if part not in ("unet", "vae", "image_encoder"):
            raise ValueError(
                f"UniAnimate.using: part must be unet, vae or image_encoder, got {part!r}"
            )
        module: nn.Module = getattr(self, part)
        if self._offload_to is None:
            yield module
            return
        module.to(self._offload_to)
        try:
            yield module
        finally:
            module.to("cpu")


def _read_text(path: Path, config: UniAnimateConfig) -> Tensor:
    state = only_tensors(path, read_checkpoint(path))
    wanted = (1, config.text_tokens, config.unet.context_dim)
    if set(state) != {"text_embeds"} or tuple(state["text_embeds"].shape) != wanted:
        shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
        raise CheckpointError(f"{path}: must hold text_embeds {wanted}, got {shapes}")
    return state["text_embeds"].float()
