import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from unianimate.metrics import ClipNetwork, evaluate_videos, frechet_distance, zeros_against_ones
from unianimate.metrics.evaluate import Networks
from unianimate.metrics.protocols import Protocol


class Corners(nn.Module):
    """Features that can be checked by hand: colours of the first and the last frame's corner."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x[:, :, 0, 0, 0], x[:, :, -1, 0, 0]], dim=1)


class Switched(nn.Module):
    """Has the arguments of StyleGAN-V's I3D, and says what they were."""

    def forward(
        self, x: Tensor, rescale: bool = True, resize: bool = True, return_features: bool = False
    ) -> Tensor:
        switches = torch.tensor([float(rescale), float(resize), float(return_features)])
        return x.mean(dim=(1, 2, 3, 4))[:, None] + switches


def network(tmp_path, module, kind):
    path = tmp_path / f"{kind}.pt"
    torch.jit.script(module).save(str(path))
    return ClipNetwork.load(path, kind)


def test_clips_start_at_every_frame_and_are_normalised_as_by_disco(tmp_path):
    levels = np.arange(0, 200, 10)
    video = np.repeat(levels, 32 * 32 * 3).reshape(20, 32, 32, 3).astype(np.uint8)
    fvd = network(tmp_path, Corners(), "fvd").features(video)
    assert fvd.shape == (5, 6)
    np.testing.assert_allclose(fvd[:, :3], (levels[:5, None] / 127.5 - 1) * np.ones(3), atol=1e-6)
    np.testing.assert_allclose(fvd[:, 3:], (levels[15:, None] / 127.5 - 1) * np.ones(3), atol=1e-6)
    fid_vid = network(tmp_path, Corners(), "fid_vid").features(video, frames=4, stride=8)
    kinetics = np.array([114.7748, 107.7354, 99.4750])
    np.testing.assert_allclose(fid_vid[:, :3], levels[[0, 8, 16], None] - kinetics, atol=1e-4)


@pytest.mark.parametrize("size", [(300, 260), (50, 70)])
def test_frames_are_resized_as_pillow_does(tmp_path, size):
    class Whole(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)

    frame = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    channels = [
        Image.fromarray(channel.astype(np.float32)).resize((112, 112), Image.Resampling.BICUBIC)
        for channel in np.moveaxis(frame, 2, 0)
    ]
    expected = np.stack(channels) - np.array([114.7748, 107.7354, 99.4750])[:, None, None]
    got = network(tmp_path, Whole(), "fid_vid").features(frame[None], frames=1)
    np.testing.assert_allclose(got.reshape(3, 112, 112), expected, atol=0.01)


def test_the_switches_of_stylegan_v_are_set(tmp_path):
    black = np.zeros((2, 8, 8, 3), np.uint8)
    features = network(tmp_path, Switched(), "fvd").features(black, frames=2)
    np.testing.assert_allclose(features, [[-1, -1, 0]])


def test_zeros_against_ones_is_the_squared_distance_of_two_features(tmp_path):
    # six features, each 2 apart
    assert zeros_against_ones(network(tmp_path, Corners(), "fvd")) == pytest.approx(24)


def test_an_evaluation_pools_the_clips_of_all_videos(tmp_path):
    random = np.random.default_rng(0)
    real = random.integers(0, 256, (3, 6, 32, 32, 3)).astype(np.uint8)
    made = random.integers(0, 256, real.shape).astype(np.uint8)
    fvd = network(tmp_path, Corners(), "fvd")
    protocol = Protocol(name="four", clip_frames=4)
    done = evaluate_videos(made, real, networks=Networks(fvd=fvd), protocol=protocol, samples=20)
    pooled = [
        np.concatenate([fvd.features(video, frames=4) for video in videos])
        for videos in (made, real)
    ]
    assert done["fvd"].mean == pytest.approx(frechet_distance(*pooled))
    assert (done["fvd"].count, done.protocol) == (9, "four")
    low, high = done["fvd"].interval
    assert low < done["fvd"].mean < high
    assert done["fvd_zeros_against_ones"].mean == pytest.approx(24)
    assert done.missing["fid_vid"] == "a 3-D ResNet-50 was not given (--fid-vid-network)"


def test_a_video_shorter_than_a_clip_costs_the_distance_and_no_other_figure(tmp_path):
    videos = [np.full((frames, 32, 32, 3), 50, np.uint8) for frames in (20, 12, 16, 3)]
    networks = Networks(
        fvd=network(tmp_path, Corners(), "fvd"), fid_vid=network(tmp_path, Corners(), "fid_vid")
    )
    done = evaluate_videos(videos, videos, networks=networks, names=list("abcd"))
    for name in ("fvd", "fid_vid"):
        assert name not in done.measures
        assert done.missing[name].startswith("video b has 12 frames and a clip 16; leave it out")
    assert done["psnr"].count == 51


def test_one_clip_has_no_distance_and_a_failed_check_costs_no_other_figure(tmp_path):
    class FourFrames(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            assert x.shape[2] == 4
            return x.flatten(1)[:, :6]

    fvd = network(tmp_path, FourFrames(), "fvd")
    video = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3)).astype(np.uint8)
    protocol = Protocol(name="four", clip_frames=4)
    for count, known in ((1, False), (2, True)):
        videos = [video] * count
        done = evaluate_videos(videos, videos, networks=Networks(fvd=fvd), protocol=protocol)
        assert ("fvd" in done.measures) is known
        assert "cannot take clips" in done.missing["fvd_zeros_against_ones"]
        assert "psnr" in done.measures
    assert done["fvd"].mean == pytest.approx(0, abs=1e-6)


def test_what_is_no_network_or_no_clip_is_refused(tmp_path):
    (tmp_path / "broken.pt").write_bytes(b"weights")
    with pytest.raises(ValueError, match=r"broken\.pt: not a TorchScript network"):
        ClipNetwork.load(tmp_path / "broken.pt", "fvd")
    with pytest.raises(FileNotFoundError):
        ClipNetwork.load(tmp_path / "none.pt", "fvd")
    corners = network(tmp_path, Corners(), "fvd")
    with pytest.raises(ValueError, match="a clip has 16 frames, got 2"):
        corners.features(np.zeros((2, 8, 8, 3), np.uint8))
    wrong = network(tmp_path, nn.Linear(7, 3), "fvd")
    with pytest.raises(ValueError, match=r"cannot take clips \(1, 3, 2, 224, 224\)"):
        wrong.features(np.zeros((2, 8, 8, 3), np.uint8), frames=2)
