"""A model of two networks, trained by the project's loop and judged by its harness."""

import pytest
import torch
from tiny_run import curve, tiny

from examples.separate_reference import SeparateReference, train, with_two_networks
from unianimate.models import PRESETS, UniAnimate
from unianimate.training.run import run_training


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("start") / "model"
    UniAnimate(PRESETS["test"]).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def model(start):
    torch.manual_seed(1)
    model = with_two_networks(UniAnimate.from_pretrained(start), 32, (32, 32)).eval()
    # the output starts at zero
    torch.nn.init.normal_(model.unet.conv_out.weight, std=0.1)
    for block in model.unet.modules():
        if hasattr(block, "attn1"):
            torch.nn.init.normal_(block.proj_out.weight, std=0.1)
    return model.requires_grad_(False)


def predict(model, **changed):
    torch.manual_seed(2)
    given = {
        "image_embeds": torch.randn(2, 1, 32),
        "pose": torch.rand(2, 3, 3, 48, 32),
        "reference_pose": torch.rand(2, 3, 48, 32),
        "reference_latents": torch.randn(2, 4, 6, 4),
    }
    sample = torch.randn(2, 4, 3, 6, 4)
    conditions = model.unet.encode_conditions(
        model.text_embeds, num_frames=3, latent_size=(6, 4), **(given | changed)
    )
    return model.unet(sample, torch.tensor([500, 20]), conditions)


def test_the_frames_read_the_reference_and_not_its_pose(model):
    whole = predict(model)
    assert whole.shape == (2, 4, 3, 6, 4)
    assert not torch.allclose(whole, predict(model, reference_latents=torch.zeros(2, 4, 6, 4)))
    assert not torch.allclose(whole, predict(model, pose=torch.zeros(2, 3, 3, 48, 32)))
    torch.testing.assert_close(whole, predict(model, reference_pose=None))


def test_each_item_reads_its_own_reference(model):
    torch.manual_seed(3)
    latents = torch.randn(2, 4, 6, 4)
    changed = latents.clone()
    changed[1] += 1
    one, other = (predict(model, reference_latents=x) for x in (latents, changed))
    torch.testing.assert_close(one[0], other[0])
    assert not torch.allclose(one[1], other[1])


def test_both_kinds_are_trained_alike(tmp_path, start):
    config = tiny(tmp_path / "cache", steps=2, model=start, pretrained=True)
    run_training(config, tmp_path / "unified")
    separate = train(config, tmp_path / "separate", dim=32, channels=(32, 32))
    losses = [[line["loss"] for line in curve(tmp_path / n)] for n in ("unified", "separate")]
    assert [len(curve) for curve in losses] == [2, 2] and losses[0] != losses[1]
    read = SeparateReference.from_pretrained(separate)
    trained = read.unet.reference_network.state_dict()
    torch.manual_seed(config.seed)
    fresh = with_two_networks(UniAnimate.from_pretrained(start), 32, (32, 32)).unet
    name = "down.0.blocks.0.resnet.conv1.weight"
    assert set(trained) == set(fresh.reference_network.state_dict())
    assert not torch.equal(trained[name], fresh.reference_network.state_dict()[name])
