"""PoseEncoder: pictures at full resolution become features at an eighth of it."""

from torch import Tensor, nn

from unianimate.blocks._layout import channels_last, from_frames, to_frames
from unianimate.blocks.temporal_adapter import TemporalAdapter

DOWNSCALE = 8


def picture_stem(dim: int) -> nn.Sequential:
    """Return the convolutions that take pictures (N, 3, 8h, 8w) to features (N, dim, h, w)."""
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1),
        nn.SiLU(),
        nn.AvgPool2d(2),
        nn.Conv2d(32, 32, 3, stride=2, padding=1),
        nn.SiLU(),
        nn.Conv2d(32, dim, 3, stride=2, padding=1),
    )


def expect_pictures(block: str, pictures: Tensor) -> None:
    """Check that pictures have three channels and sides that are multiples of eight.

    Raises:
        ValueError: if not.
    """
    height, width = pictures.shape[-2:]
    if pictures.shape[1] != 3 or height % DOWNSCALE or width % DOWNSCALE:
        raise ValueError(
            f"{block}: pictures must have 3 channels and height and width in multiples of "
            f"{DOWNSCALE}, got shape {tuple(pictures.shape)}"
        )


class PoseEncoder(nn.Module):
    """Encode pose pictures: three convolutions on every frame, then a `TemporalAdapter`.

    The STC-style encoder of the UniAnimate release (VideoComposer, arXiv 2306.02018, section 3.2).

    Args:
        dim: channels of the features.
        temporal: let the frames see one another.
        dropout: of the temporal adapter.
    """

    def __init__(self, dim: int, *, temporal: bool = True, dropout: float = 0.0) -> None:
        super().__init__()
        self.dim = dim
        self.spatial = picture_stem(dim)
        self.temporal = TemporalAdapter(dim, dropout=dropout) if temporal else None

    def forward(self, pose: Tensor) -> Tensor:
        """Return features (B, dim, F, h, w) of pictures (B, 3, F, 8h, 8w), RGB in [0, 1].

        Raises:
            ValueError: the shape does not fit.
        """
        return self.mix(self.encode_frames(pose))

    def encode_frames(self, pose: Tensor) -> Tensor:
        """Do what works frame by frame: (B, 3, F, 8h, 8w) -> (B, dim, F, h, w)."""
        pose = channels_last(pose)
        expect_pictures("PoseEncoder", pose)
        return from_frames(self.spatial(to_frames(pose)), pose.shape[0])

    def mix(self, features: Tensor) -> Tensor:
        """Let the frames of (B, dim, F, h, w) see one another, if the encoder does that."""
        return features if self.temporal is None else self.temporal(features)

    def extra_repr(self) -> str:
        """Tell the sizes."""
        return f"{self.dim}, temporal={self.temporal is not None}"
