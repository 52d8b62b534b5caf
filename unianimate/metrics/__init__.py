"""Metrics of generated videos against true ones; on arrays, or by `evaluate_videos`."""

from .bootstrap import bootstrap_interval, bootstrap_mean
from .catalogue import METRICS, Metric
from .clip_networks import ClipNetwork, zeros_against_ones
from .evaluate import Evaluation, Measure, Networks, evaluate_videos
from .frechet import frechet_distance
from .identity_color import identity_color_error
from .lpips import LPIPSNetwork, lpips, lpips_disco
from .pixels import l1_disco, mae, moving_pixels, psnr, psnr_disco_legacy
from .pose_error import keypoint_error, keypoints_missed, pose_error
from .protocols import AS_GIVEN, PROTOCOLS, Protocol
from .published import PUBLISHED, PublishedRow
from .ssim import ssim, ssim_disco
from .temporal import warping_error

__all__ = [
    "AS_GIVEN",
    "METRICS",
    "PROTOCOLS",
    "PUBLISHED",
    "ClipNetwork",
    "Evaluation",
    "LPIPSNetwork",
    "Measure",
    "Metric",
    "Networks",
    "Protocol",
    "PublishedRow",
    "bootstrap_interval",
    "bootstrap_mean",
    "evaluate_videos",
    "frechet_distance",
    "identity_color_error",
    "keypoint_error",
    "keypoints_missed",
    "l1_disco",
    "lpips",
    "lpips_disco",
    "mae",
    "moving_pixels",
    "pose_error",
    "psnr",
    "psnr_disco_legacy",
    "ssim",
    "ssim_disco",
    "warping_error",
    "zeros_against_ones",
]
