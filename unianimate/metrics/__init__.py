"""Metrics of generated videos against true ones; on arrays, or by `evaluate_videos`."""

from .bootstrap import bootstrap_interval, bootstrap_mean
from .catalogue import METRICS, Metric
from .evaluate import Evaluation, Measure, evaluate_videos
from .identity_color import identity_color_error
from .pixels import l1_disco, mae, moving_pixels, psnr, psnr_disco_legacy
from .pose_error import keypoint_error, keypoints_missed, pose_error
from .ssim import ssim, ssim_disco
from .temporal import warping_error

__all__ = [
    "METRICS",
    "Evaluation",
    "Measure",
    "Metric",
    "bootstrap_interval",
    "bootstrap_mean",
    "evaluate_videos",
    "identity_color_error",
    "keypoint_error",
    "keypoints_missed",
    "l1_disco",
    "mae",
    "moving_pixels",
    "pose_error",
    "psnr",
    "psnr_disco_legacy",
    "ssim",
    "ssim_disco",
    "warping_error",
]
