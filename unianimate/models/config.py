"""UniAnimateConfig: the sizes of a whole model, and how it is run if nothing else is asked."""

from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass

from unianimate.models.unet3d.config import UNet3DConfig


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class UniAnimateConfig:
    """What a `UniAnimate` is built from; the ``config.json`` of a model folder.

    Attributes:
        unet: the network.
        width: of the video, in pixels.
        height: of the video, in pixels.
        num_frames: frames the network sees at once.
        steps: sampling steps.
        guidance: scale of classifier-free guidance.
        timestep_shift: of the sampling steps towards noise, see `NoiseScheduler`.
        text_tokens: tokens of the empty text.
        vae: the configuration of diffusers' `AutoencoderKL`; None is the official one.
        image_encoder: the configuration of transformers' `CLIPVisionModelWithProjection`; None is
            the official one.
    """

    unet: UNet3DConfig = field(default_factory=UNet3DConfig)
    width: int = 512
    height: int = 768
    num_frames: int = 32
    steps: int = 30
    guidance: float = 2.5
    timestep_shift: Annotated[float, Field(gt=0)] = 1.0
    text_tokens: int = 77
    vae: dict[str, Any] | None = None
    image_encoder: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, as it is written to JSON."""
        data: dict[str, Any] = TypeAdapter(UniAnimateConfig).dump_python(self, mode="json")
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "UniAnimateConfig":
        """Read what `to_dict` gave.

        Raises:
            pydantic.ValidationError: a key is unknown or a value does not fit.
        """
        return TypeAdapter(cls).validate_python(dict(data))
