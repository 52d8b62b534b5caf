"""The videos of a run: read as they are, or once into a cache with their latents."""

import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from unianimate.data import PosedVideo, PosedVideos, PuppetVideos, open_video_set
from unianimate.data.clips import Pictures, VideoSet
from unianimate.models import VAE
from unianimate.training.cache import VideoCache
from unianimate.training.config import DataConfig
from unianimate.training.vae import encode_all

Progress = Callable[[int, int], None]

_ENCODED_AT_ONCE = 64


def open_videos(
    data: DataConfig, width: int, height: int, *, progress: Progress | None = None
) -> VideoSet:
    """Open the videos that a run trains on.

    With ``data.cache`` they are drawn or decoded once, into that folder.

    Args:
        data: which videos.
        width: of the model, in pixels.
        height: likewise.
        progress: called with videos done and videos in all while the cache is written.

    Raises:
        ValueError: there are none, or the cache is of other videos or another size.
        OSError: they cannot be read.
    """
    if data.cache is None:
        return _open(data, width, height)
    folder = Path(data.cache)
    if not folder.exists():
        videos = _open(data, width, height)
        VideoCache.write(
            videos, folder, workers=data.workers, progress=progress, source=_source(data)
        )
    cache = VideoCache(folder)
    if cache.source and cache.source != _source(data):
        changed = [name for name, value in _source(data).items() if cache.source.get(name) != value]
        raise ValueError(
            f"{folder}: was made with another data.{', data.'.join(changed)}: remove it, or name "
            f"another data.cache"
        )
    frames, _ = cache.read(0, [0])
    if frames.shape[1:3] != (height, width):
        raise ValueError(
            f"{folder}: its pictures are {frames.shape[2]} x {frames.shape[1]}, this model's "
            f"{width} x {height}: remove it, or name another cache"
        )
    return cache


def with_latents(videos: VideoSet, vae: VAE, *, progress: Progress | None = None) -> VideoSet:
    """Add the latents of all frames to a cache, once for every autoencoder; others stay."""
    if not isinstance(videos, VideoCache):
        return videos
    cache = VideoCache(videos.folder, fingerprint(vae))
    if not cache.has_latents:
        cache.add_latents(encode_all(vae, _told(cache, progress)))
    return cache


def _told(cache: VideoCache, progress: Progress | None) -> Iterator[Pictures]:
    """Yield all frames and tell how many are done."""
    total, done = sum(cache.lengths), 0
    for part in cache.all_frames(_ENCODED_AT_ONCE):
        yield part
        done += len(part)
        if progress is not None:
            progress(done, total)


def fingerprint(vae: VAE) -> str:
    """Return eight letters that name the weights that encode: latents depend on no others."""
    checksum = 0
    for name, tensor in vae.state_dict().items():
        if not name.startswith(("model.encoder.", "model.quant_conv.")):
            continue
        data = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        checksum = zlib.crc32(data.data, zlib.crc32(name.encode(), checksum))
    return f"{checksum:08x}"


def open_validation(data: DataConfig, width: int, height: int) -> VideoSet:
    """Open the videos that a run on videos makes samples of.

    Raises:
        ValueError: there are none.
        OSError: they cannot be read.
    """
    if data.kind not in ("folder", "tiktok", "fashion"):
        raise ValueError(f"data.validation: there are no validation videos for kind {data.kind}")
    public = data.kind != "folder"
    if data.validation is None and not public:
        raise ValueError(
            "data.validation: samples need a folder of videos that are not trained on; name it, "
            "or set sample_every to 0"
        )
    folder = data.validation or _path(data)
    poses = data.poses if data.validation is None else None
    return open_video_set(
        data.kind,
        folder,
        width,
        height,
        split="test" if data.validation is None else None,
        poses=poses,
        fit=data.fit,
        enlarge=data.enlarge,
    )


def _open(data: DataConfig, width: int, height: int) -> VideoSet:
    if data.kind == "puppets":
        return PuppetVideos(data.first, data.count, data.video_frames, width, height)
    if data.kind == "video":
        if data.poses is None:
            raise ValueError("data.poses: name the pose file (.npz) of the video")
        video = PosedVideo(Path(_path(data)), Path(data.poses), stop=data.video_frames)
        return PosedVideos([video], width, height, fit=data.fit, enlarge=data.enlarge)
    return open_video_set(
        data.kind, _path(data), width, height, poses=data.poses, fit=data.fit, enlarge=data.enlarge
    )


def _path(data: DataConfig) -> str:
    if data.path is None:
        raise ValueError(f"data.path: name the folder of the videos, for data.kind is {data.kind}")
    return data.path


def _source(data: DataConfig) -> dict[str, Any]:
    """Return the settings that pictures in a cache depend on."""
    names = ["kind", "path", "poses", "fit", "enlarge"]
    names += {"puppets": ["first", "count", "video_frames"], "video": ["video_frames"]}.get(
        data.kind, []
    )
    return {name: getattr(data, name) for name in names}
