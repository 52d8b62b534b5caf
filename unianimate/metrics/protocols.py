"""Evaluation protocols as data: at which size, on which clips, and with which notes."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a set of videos is evaluated.

    Args:
        name: how it is called.
        width: to which both videos are stretched, in pixels; None keeps the true video's.
        height: likewise.
        clip_frames: consecutive frames of a clip for FVD and FID-VID.
        clip_stride: frames from the start of a clip to the start of the next.
        notes: what one must know to compare with published figures.
    """

    name: str = ""
    width: int | None = None
    height: int | None = None
    clip_frames: int = 16
    clip_stride: int = 1
    notes: str = ""


AS_GIVEN = Protocol(name="as given")

PROTOCOLS: dict[str, Protocol] = {
    "tiktok": Protocol(
        name="tiktok",
        width=256,
        height=256,
        notes=(
            "DisCo's TikTok protocol: each video is generated from its first frame. Compare "
            "l1_disco, psnr_disco_legacy or psnr, ssim_disco, lpips_disco and fvd with published "
            "figures. The list of its 10 videos is not public."
        ),
    ),
    "fashion": Protocol(
        name="fashion",
        width=256,
        height=256,
        notes=(
            "UBC Fashion's 100 test videos by DisCo's tool, each generated from its first frame; "
            "the papers name no size for them, so the 256 x 256 of TikTok is an assumption."
        ),
    ),
}


def find_protocol(name: str) -> Protocol:
    """Return a protocol by its name.

    Raises:
        ValueError: there is none of that name.
    """
    try:
        return PROTOCOLS[name]
    except KeyError:
        raise ValueError(
            f"there is no protocol {name!r}: choose {' or '.join(PROTOCOLS)}"
        ) from None
