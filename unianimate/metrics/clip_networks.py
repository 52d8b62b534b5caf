"""Features of clips by the user's video networks, for FVD and FID-VID."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ._frames import Frames, expect_video, to_bytes
from .frechet import frechet_distance

Kind = Literal["fvd", "fid_vid"]

_BATCH = 4


@dataclass(frozen=True)
class _Input:
    """How a network wants its clips: size in pixels, then (levels - mean) / scale a channel."""

    size: int
    mean: tuple[float, float, float]
    scale: float


# DisCo's tool: I3D on [-1, 1]; the 3-D ResNet-50 of Hara et al. on levels less Kinetics' mean
_INPUTS: dict[Kind, _Input] = {
    "fvd": _Input(224, (127.5, 127.5, 127.5), 127.5),
    "fid_vid": _Input(112, (114.7748, 107.7354, 99.4750), 1.0),
}


class ClipNetwork:
    """A TorchScript network that turns clips (N, 3, F, S, S) into features (N, D).

    Frames are resized one by one to S x S (bicubic, smoothed, as Pillow does) and normalised as
    DisCo's tool does: "fvd" 224 x 224 in [-1, 1] for I3D, "fid_vid" 112 x 112 less the mean of
    Kinetics for a 3-D ResNet-50 without its last layer. If ``forward`` has StyleGAN-V's arguments
    ``rescale``, ``resize`` and ``return_features`` they are given as False, False, True.

    Args:
        module: the network.
        kind: "fvd" or "fid_vid".
        device: where it runs.
    """

    def __init__(self, module: torch.jit.ScriptModule, kind: Kind, *, device: str = "cpu") -> None:
        if kind not in _INPUTS:
            raise ValueError(f"ClipNetwork: kind must be one of {', '.join(_INPUTS)}, got {kind!r}")
        self.kind, self._device = kind, torch.device(device)
        self._module = module.eval().to(self._device)
        forward: Any = module.forward
        given = {argument.name for argument in forward.schema.arguments}
        switches = {"rescale": False, "resize": False, "return_features": True}
        self._switches = {name: value for name, value in switches.items() if name in given}

    @classmethod
    def load(cls, path: str | Path, kind: Kind, *, device: str = "cpu") -> "ClipNetwork":
        """Read a TorchScript file, as ``i3d_torchscript.pt``.

        Raises:
            ValueError: not such a file.
            OSError: the file cannot be read.
        """
        with Path(path).open("rb") as file:
            try:
                module = torch.jit.load(file, map_location="cpu")  # type: ignore[no-untyped-call]  # torch's
            except RuntimeError as error:
                reason = str(error).strip().splitlines()[0]
                raise ValueError(f"{path}: not a TorchScript network: {reason}") from None
        return cls(module, kind, device=device)

    @torch.no_grad()
    def features(
        self, video: ArrayLike, *, frames: int = 16, stride: int = 1
    ) -> NDArray[np.float64]:
        """Return the features (n, D) of all clips of a video (F, H, W, 3).

        Args:
            video: uint8, or float in [0, 1].
            frames: of each clip, which are consecutive.
            stride: from the start of a clip to the start of the next.

        Raises:
            ValueError: a video shorter than a clip, or a network that cannot take its clips.
        """
        checked = expect_video(video)
        if len(checked) < frames:
            raise ValueError(f"{self.kind}: a clip has {frames} frames, got {len(checked)}")
        pictures = self._pictures(checked)
        starts = range(0, len(pictures) - frames + 1, stride)
        clips = [pictures[start : start + frames] for start in starts]
        batches = [
            self._run(torch.stack(clips[at : at + _BATCH]).transpose(1, 2))
            for at in range(0, len(clips), _BATCH)
        ]
        return torch.cat(batches).double().cpu().numpy()

    def _pictures(self, video: Frames) -> Tensor:
        """Return the frames as the network wants them (F, 3, S, S)."""
        wanted = _INPUTS[self.kind]
        size = (wanted.size, wanted.size)
        mean = torch.tensor(wanted.mean).view(1, 3, 1, 1)

        def picture(frame: Frames) -> Tensor:
            levels = torch.from_numpy(to_bytes(frame)).permute(2, 0, 1)[None].float()
            resized = F.interpolate(levels, size, mode="bicubic", antialias=True)
            return (resized - mean) / wanted.scale

        # one by one, so that only the small pictures are held as floats
        return torch.cat([picture(frame) for frame in video])

    def _run(self, clips: Tensor) -> Tensor:
        try:
            features = self._module(clips.contiguous().to(self._device), **self._switches)
        except (RuntimeError, torch.jit.Error) as error:
            reason = str(error).strip().splitlines()[-1]
            raise ValueError(
                f"{self.kind}: the network cannot take clips {tuple(clips.shape)}: {reason}"
            ) from None
        if not isinstance(features, Tensor) or features.shape[:1] != clips.shape[:1]:
            raise ValueError(
                f"{self.kind}: the network must return features ({len(clips)}, D) of clips "
                f"{tuple(clips.shape)}, got {getattr(features, 'shape', type(features).__name__)}"
            )
        return features.flatten(1)


def zeros_against_ones(network: ClipNetwork) -> float:
    """Return the distance of black videos from white ones, to check a network with.

    The common check of FVD codes: 8 videos of zeros and 8 of ones, [8, 30, 3, 64, 64], whole
    videos as clips. StyleGAN-V's ``i3d_torchscript.pt`` gives 151.26 (the TensorFlow original
    151.39), and about 1 more or less by the version of torch. Equal videos have no covariance, so
    that one of each is enough and the distance is the squared distance of two feature vectors.
    """
    black = np.zeros((30, 64, 64, 3), dtype=np.uint8)
    black_features, white_features = (
        network.features(video, frames=len(video)) for video in (black, ~black)
    )
    return frechet_distance(black_features, white_features)
