import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchmetrics.functional.image import lpips as theirs

from unianimate.metrics import LPIPSNetwork, evaluate_videos, lpips, lpips_disco
from unianimate.metrics.evaluate import Networks


def vgg16_features():
    """torchvision's layers of VGG16, by their description: without torchvision."""
    layers, channels = [], 3
    for size in (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0):
        if size:
            layers += [nn.Conv2d(channels, size, 3, padding=1), nn.ReLU(inplace=True)]
            channels = size
        else:
            layers.append(nn.MaxPool2d(kernel_size=2, stride=2))
    return nn.Sequential(*layers)


@pytest.fixture(scope="module")
def vgg16():
    torch.manual_seed(0)
    features = vgg16_features()
    for layer in features:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return features


@pytest.fixture(scope="module")
def weights(vgg16, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "vgg16.pth"
    torch.save({f"features.{name}": value for name, value in vgg16.state_dict().items()}, path)
    return path


@pytest.fixture(scope="module")
def network(weights):
    return LPIPSNetwork.load(weights)


def pair(frames=2):
    random = np.random.default_rng(0)
    real = random.integers(0, 256, (frames, 33, 40, 3)).astype(np.uint8)
    return np.clip(real + random.normal(0, 40, real.shape), 0, 255).astype(np.uint8), real


def test_both_forms_are_those_of_torchmetrics(network, vgg16, monkeypatch):
    monkeypatch.setattr(theirs, "_get_tv_model_features", lambda name, pretrained: vgg16)
    reference = theirs._LPIPS(net="vgg")
    made, real = pair()
    a, b = (torch.tensor(video).permute(0, 3, 1, 2) / 255 for video in (made, real))
    standard = reference(a, b, normalize=True).flatten()
    np.testing.assert_allclose(lpips(made, real, network), standard.numpy(), rtol=1e-4)
    as_disco = reference(a, b, normalize=False).flatten()
    np.testing.assert_allclose(lpips_disco(made, real, network), as_disco.numpy(), rtol=1e-4)
    assert not torch.allclose(standard, as_disco, rtol=0.01)


def test_equal_frames_are_at_no_distance_and_noise_adds_to_it(network):
    made, real = pair(frames=1)
    assert lpips(real, real, network)[0] == 0
    half = ((made.astype(int) + real) // 2).astype(np.uint8)
    assert 0 < lpips(half, real, network)[0] < lpips(made, real, network)[0]


def test_an_evaluation_with_weights_has_both(network):
    made, real = pair()
    done = evaluate_videos([made], [real], networks=Networks(lpips=network))
    assert done["lpips"].mean == pytest.approx(lpips(made, real, network).mean())
    assert done["lpips_disco"].mean == pytest.approx(lpips_disco(made, real, network).mean())


def test_files_that_are_not_the_weights_are_refused(weights, tmp_path):
    save_file({"features.0.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "some.safetensors")
    with pytest.raises(ValueError, match=r"VGG16's weights lack features\.0\.bias"):
        LPIPSNetwork.load(tmp_path / "some.safetensors")
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(ValueError, match=r"text\.pth: truncated, or no file of weights"):
        LPIPSNetwork.load(tmp_path / "text.pth")
    with pytest.raises(ValueError, match="linear layers lack lin0 of 64"):
        LPIPSNetwork.load(weights, tmp_path / "some.safetensors")
    with pytest.raises(FileNotFoundError):
        LPIPSNetwork.load(tmp_path / "none.pth")


def test_tiny_frames_are_refused(network):
    tiny = np.zeros((1, 15, 40, 3), np.uint8)
    with pytest.raises(ValueError, match="at least 16 x 16"):
        lpips(tiny, tiny, network)
