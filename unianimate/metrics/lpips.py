"""LPIPS (Zhang et al. 2018) on VGG16, with the user's weights; no torchvision is needed."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from ._frames import Array, Frames, expect_pair, to_levels

# of VGG16: channels of its convolutions, "pool" between the blocks
_LAYERS = (64, 64, "pool", 128, 128, "pool", *(256,) * 3, "pool", *(512,) * 3, "pool", *(512,) * 3)
_BLOCK_CHANNELS = (64, 128, 256, 512, 512)
# turns [-1, 1] into ImageNet's normalisation
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
_EPSILON = 1e-10


class LPIPSNetwork(nn.Module):
    """The convolutions of VGG16 and the linear layers that weigh their differences.

    Args:
        vgg16: state dict of torchvision's VGG16; only its ``features.`` are read.
        linear: state dict of LPIPS's linear layers for VGG (version 0.1).

    Raises:
        ValueError: a weight is missing or has another shape.
    """

    def __init__(self, vgg16: Mapping[str, Tensor], linear: Mapping[str, Tensor]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for layer in _LAYERS:
            if isinstance(layer, int):
                layers += [nn.Conv2d(channels, layer, 3, padding=1, device="meta"), nn.ReLU()]
                channels = layer
            else:
                layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        names = self.state_dict().keys()
        try:
            self.load_state_dict({name: vgg16[name] for name in names}, assign=True)
        except KeyError as error:
            raise ValueError(f"LPIPS: VGG16's weights lack {error.args[0]}") from None
        except RuntimeError as error:
            raise ValueError(f"LPIPS: these are not VGG16's weights: {error}") from None
        for index, size in enumerate(_BLOCK_CHANNELS):
            weight = linear.get(f"lin{index}.model.1.weight")
            if weight is None or weight.numel() != size:
                raise ValueError(f"LPIPS: the linear layers lack lin{index} of {size} channels")
            self.register_buffer(f"linear_{index}", weight.detach().float().view(1, size, 1, 1))
        self.register_buffer("shift", torch.tensor(_SHIFT).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(_SCALE).view(1, 3, 1, 1))
        self.float().eval().requires_grad_(False)

    @classmethod
    def load(
        cls, vgg16: str | Path, linear: str | Path | None = None, *, device: str = "cpu"
    ) -> "LPIPSNetwork":
        """Read the weights from files (.pth or .safetensors).

        Args:
            vgg16: torchvision's ``vgg16-397923af.pth``, or a safetensors file with its names.
            linear: LPIPS's ``vgg.pth`` (version 0.1); by default the copy that torchmetrics holds.
            device: where it runs.

        Raises:
            ValueError: a file that does not hold these weights.
            OSError: a file that cannot be read.
        """
        return cls(_read(Path(vgg16)), _read(Path(linear or _linear_of_torchmetrics()))).to(device)

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        """Return the distance (N,) of pictures (N, 3, H, W) in [-1, 1], at least 16 x 16."""
        total = torch.zeros(len(one), device=one.device)
        for index, (a, b) in enumerate(zip(self._blocks(one), self._blocks(other))):
            weighted = self.get_buffer(f"linear_{index}") * (_unit(a) - _unit(b)).square()
            total += weighted.sum(dim=1).mean(dim=(1, 2))
        return total

    def _blocks(self, pictures: Tensor) -> list[Tensor]:
        """Return the last activation of each block."""
        x = (pictures - self.get_buffer("shift")) / self.get_buffer("scale")
        blocks = []
        for layer in self.features:
            if isinstance(layer, nn.MaxPool2d):
                blocks.append(x)
            x = layer(x)
        return [*blocks, x]


def lpips(generated: ArrayLike, truth: ArrayLike, network: LPIPSNetwork) -> Array:
    """Return the standard LPIPS (VGG) of every frame (F,): pictures go in as [-1, 1].

    Args:
        generated: (F, H, W, 3), uint8 or float in [0, 1], at least 16 x 16 pixels.
        truth: likewise, of the same shape.
        network: with its weights.

    Raises:
        ValueError: shapes that differ, another dtype or range, or frames that are too small.
    """
    return _distances(generated, truth, network, 2 / 255, -1)


def lpips_disco(generated: ArrayLike, truth: ArrayLike, network: LPIPSNetwork) -> Array:
    """Return LPIPS (VGG) as DisCo's tool has it (F,): pictures go in as [0, 1], not [-1, 1].

    Arguments as for `lpips`. Published TikTok and Fashion figures are of this kind.
    """
    return _distances(generated, truth, network, 1 / 255, 0)


@torch.no_grad()
def _distances(
    generated: ArrayLike, truth: ArrayLike, network: LPIPSNetwork, scale: float, offset: float
) -> Array:
    made, real = expect_pair(generated, truth)
    if min(real.shape[1:3]) < 16:
        raise ValueError(f"lpips: frames must be at least 16 x 16 pixels, got {real.shape}")
    device = network.get_buffer("shift").device

    def picture(frame: Frames) -> Tensor:
        levels = torch.from_numpy(to_levels(frame) * scale + offset)
        return levels.float().permute(2, 0, 1)[None].to(device)

    # one frame at a time: VGG's first activations take 64 floats a pixel
    distances = [network(picture(a), picture(b)) for a, b in zip(made, real)]
    return np.array([float(distance) for distance in distances])


def _unit(x: Tensor) -> Tensor:
    return x / (x.square().sum(dim=1, keepdim=True).sqrt() + _EPSILON)


def _read(path: Path) -> Mapping[str, Tensor]:
    import pickle

    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, SafetensorError, RuntimeError, EOFError, LookupError) as error:
        raise ValueError(f"{path}: truncated, or no file of weights alone") from error
    if not isinstance(content, Mapping):
        raise ValueError(f"{path}: wanted a state dict, got {type(content).__name__}")
    return content


def _linear_of_torchmetrics() -> Path:
    # found, not imported: torchmetrics takes seconds to import, and this is a file of 6 KB
    spec = importlib.util.find_spec("torchmetrics")
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(
            "LPIPS: its linear layers come with torchmetrics: `pip install unianimate[metrics]`, "
            "or name a file of them"
        )
    return Path(spec.submodule_search_locations[0], "functional/image/lpips_models/vgg.pth")
