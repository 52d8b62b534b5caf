import pickle

import numpy as np
import pytest
import torch
from tiny_run import Noise, tiny

from unianimate.data.clips import BrokenVideoError
from unianimate.models import PRESETS, VAE
from unianimate.pipelines import folder_lock
from unianimate.training.cache import VideoCache
from unianimate.training.vae import encode_posterior
from unianimate.training.videos import fingerprint, open_videos, with_latents


class Damaged(Noise):
    """Its second video is broken: when it is opened, when it is read, or from frame 4 on."""

    def __init__(self, when: str) -> None:
        self.when = when

    def num_frames(self, index: int) -> int:
        if (index, self.when) == (1, "opened"):
            raise BrokenVideoError("b.mp4: damaged")
        return (4, 5, 4)[index] if self.when == "read later" else 4 + index

    def read(self, index, frames):
        if (index, self.when) == (1, "read") or (self.when == "read later" and 4 in frames):
            raise BrokenVideoError("b.mp4: damaged")
        if self.when == "interrupted" and index == 1:
            raise KeyboardInterrupt
        return super().read(index, frames)


def assert_same(cache, number, videos, index, frames):
    for ours, theirs in zip(cache.read(number, frames), videos.read(index, frames), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_cache_reads_what_was_written(tmp_path):
    seen = []
    cache = VideoCache.write(Noise(), tmp_path / "c", progress=lambda *done: seen.append(done))
    assert len(cache) == 3 and cache.lengths == [6, 6, 6] and cache.num_frames(2) == 6
    for index in range(3):
        assert_same(cache, index, Noise(), index, [5, 0, 0, 3])
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert_same(pickle.loads(pickle.dumps(cache)), 1, Noise(), 1, [2])
    assert len(pickle.dumps(cache)) < 1000


def test_one_process_at_a_time_writes_a_cache(tmp_path, monkeypatch):
    pytest.importorskip("fcntl")

    class Racing(Noise):
        """Another process comes while its last video is read."""

        def read(self, index, frames):
            if index == 2:
                with monkeypatch.context() as another:
                    another.setattr(folder_lock, "_held", {})
                    with pytest.raises(BlockingIOError, match="another process is at work there"):
                        VideoCache.write(Noise(), tmp_path / "c")
            return super().read(index, frames)

    def racing(cache):
        yield torch.zeros(9, 8, 1, 1)
        with monkeypatch.context() as another:
            another.setattr(folder_lock, "_held", {})
            with pytest.raises(BlockingIOError, match="another process is at work there"):
                cache.add_latents(iter([torch.ones(18, 8, 1, 1)]))
        yield torch.zeros(9, 8, 1, 1)

    # what a killed run left is no matter
    (tmp_path / ".c.unfinished").mkdir()
    (tmp_path / ".c.unfinished" / "frames.npy").write_bytes(b"half")
    cache = VideoCache.write(Racing(), tmp_path / "c")
    for index in range(3):
        assert_same(cache, index, Noise(), index, range(6))
    cache.add_latents(racing(cache))
    assert cache.latents(2, [5])[0].abs().max() == 0
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


@pytest.mark.parametrize("when", ["read", "opened"])
def test_broken_videos_are_named_and_left_out(tmp_path, caplog, when):
    videos = Damaged(when)
    cache = VideoCache.write(videos, tmp_path / "c")
    assert cache.lengths == [4, 6]
    assert_same(cache, 0, videos, 0, [3, 1])
    assert_same(cache, 1, videos, 2, [5, 0])
    assert [r.getMessage() for r in caplog.records] == ["skipped: b.mp4: damaged"]
    assert sum(len(part) for part in cache.all_frames(3)) == 10
    cache.add_latents(torch.zeros(len(part), 8, 1, 1) for part in cache.all_frames(3))
    assert cache.latents(1, [5])[0].shape == (1, 4, 1, 1)


def test_a_video_that_breaks_later_leaves_no_frames(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("unianimate.training.cache._PIECE", 2)
    seen = []
    videos = Damaged("read later")
    cache = VideoCache.write(videos, tmp_path / "c", progress=lambda *done: seen.append(done))
    assert cache.lengths == [4, 4] and seen == [(1, 3), (2, 3), (3, 3)]
    for number, index in enumerate((0, 2)):
        assert_same(cache, number, videos, index, range(4))
    assert [r.getMessage() for r in caplog.records] == ["skipped: b.mp4: damaged"]


def test_an_interrupted_cache_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        VideoCache.write(Damaged("interrupted"), tmp_path / "c")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError, match="there is no cache"):
        VideoCache(tmp_path / "c")


def test_interrupted_latents_leave_nothing(tmp_path):
    cache = VideoCache.write(Noise(), tmp_path / "c")
    before = sorted(tmp_path.rglob("*"))

    def some():
        yield torch.zeros(4, 8, 1, 1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.add_latents(some())
    with pytest.raises(ValueError, match="wanted latents of 18 frames, got 4"):
        cache.add_latents(iter([torch.zeros(4, 8, 1, 1)]))
    assert sorted(tmp_path.rglob("*")) == before and not cache.has_latents
    with pytest.raises(FileNotFoundError, match="no latents"):
        cache.latents(0, [0])


def test_a_cache_is_not_overwritten_and_needs_a_video(tmp_path):
    VideoCache.write(Noise(), tmp_path / "c")
    with pytest.raises(FileExistsError, match="is there already"):
        VideoCache.write(Noise(), tmp_path / "c")

    class AllBroken(Noise):
        def read(self, index, frames):
            raise BrokenVideoError(f"{index}: damaged")

    with pytest.raises(ValueError, match="none of the 3 videos can be read"):
        VideoCache.write(AllBroken(), tmp_path / "d")
    assert not (tmp_path / "d").exists()


def test_latents_belong_to_the_autoencoder_that_made_them(tmp_path):
    torch.manual_seed(0)
    config = tiny(tmp_path / "c", data__count=1, data__video_frames=2)
    one, other = (VAE(PRESETS["test"].vae).eval() for _ in range(2))
    videos = open_videos(config.data, 32, 48)
    told = []
    first = with_latents(videos, one, progress=lambda *done: told.append(done))
    second = with_latents(videos, other)
    assert fingerprint(one) != fingerprint(other) and told == [(2, 2)]
    for cache, vae in ((first, one), (second, other), (with_latents(videos, one), one)):
        wanted = encode_posterior(vae, torch.from_numpy(np.array(cache.read(0, [1, 0])[0])))
        for ours, theirs in zip(cache.latents(0, [1, 0]), wanted, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=2e-3, atol=2e-3)  # kept as float16


def test_a_cache_of_other_videos_or_another_size_is_refused(tmp_path):
    data = tiny(tmp_path / "c", data__count=1, data__video_frames=2).data
    open_videos(data, 32, 48)
    with pytest.raises(ValueError, match="its pictures are 32 x 48, this model's 64 x 96"):
        open_videos(data, 64, 96)
    other = tiny(tmp_path / "c", data__count=2, data__video_frames=3).data
    with pytest.raises(ValueError, match=r"was made with another data\.count, data\.video_frames:"):
        open_videos(other, 32, 48)
