"""What is measured: every figure's label, unit and direction."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Metric:
    """One figure of the tables.

    Args:
        label: in tables.
        unit: of its values; empty for none.
        better: which direction is better; None says it is no figure of quality.
        digits: after the decimal point, in tables.
    """

    label: str
    unit: str = ""
    better: Literal["higher", "lower"] | None = "lower"
    digits: int = 2


METRICS: dict[str, Metric] = {
    "mae": Metric("MAE", "levels"),
    "l1_disco": Metric("L1 (DisCo)", "E-04"),
    "psnr": Metric("PSNR", "dB", "higher"),
    "psnr_moving": Metric("PSNR, moving pixels", "dB", "higher"),
    "psnr_static": Metric("PSNR, static pixels", "dB", "higher"),
    "moving_share": Metric("share of moving pixels", better=None),
    "psnr_disco_legacy": Metric("PSNR (DisCo, legacy)", "dB", "higher"),
    "ssim": Metric("SSIM", better="higher", digits=3),
    "ssim_disco": Metric("SSIM (DisCo)", better="higher", digits=3),
    "lpips": Metric("LPIPS", digits=3),
    "lpips_disco": Metric("LPIPS (DisCo)", digits=3),
    "fid_vid": Metric("FID-VID"),
    "fvd": Metric("FVD"),
    "fvd_zeros_against_ones": Metric("FVD of zeros against ones (I3D: 151.26)", better=None),
    "warping_error": Metric("warping error", "levels"),
    "warping_error_truth": Metric("warping error of the true videos", "levels", None),
    "pose_error": Metric("pose error", "px"),
    "identity_color_error": Metric("identity colour error", "ΔE"),
    "keypoint_error": Metric("key point error", "px"),
    "keypoints_missed": Metric("share of key points missed"),
}
