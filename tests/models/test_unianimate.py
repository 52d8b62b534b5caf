"""The whole model: folders, devices, dtypes, offload."""

import json

import pytest
import torch
from torch import nn

from unianimate.models import PRESETS, UniAnimate
from unianimate.models import devices as devices_module
from unianimate.models.checkpoints.files import CheckpointError
from unianimate.models.devices import default_dtype
from unianimate.models.folders import data_home, model_folder


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return UniAnimate(PRESETS["test"]).eval()


@pytest.fixture
def folder(model, tmp_path):
    model.save_pretrained(tmp_path / "mine")
    return tmp_path / "mine"


def test_a_model_survives_its_folder(model, folder):
    assert {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()} == {
        "config.json",
        "unet/model.safetensors",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
        "image_encoder/config.json",
        "image_encoder/model.safetensors",
        "empty_text.safetensors",
    }
    read = UniAnimate.from_pretrained(folder, device="cpu", dtype=torch.float32)
    assert read.config == model.config
    assert not any(module.training for module in read.modules())
    own, state = model.state_dict(), read.state_dict()
    assert own.keys() == state.keys()
    assert all(torch.equal(own[k], state[k]) for k in own)


def test_the_config_names_what_a_run_needs(folder):
    config = json.loads((folder / "config.json").read_text())
    assert {"width", "height", "num_frames", "steps", "guidance", "unet"} <= config.keys()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_network_runs_in_every_dtype(folder, dtype):
    model = UniAnimate.from_pretrained(folder, device="cpu", dtype=dtype)
    assert model.dtype == dtype
    assert model.vae.model.dtype == torch.float32
    conditions = model.unet.encode_conditions(
        model.text_embeds, num_frames=2, latent_size=(6, 4), pose=torch.rand(1, 3, 2, 48, 32)
    )
    with torch.no_grad():
        prediction = model.unet(torch.randn(1, 4, 2, 6, 4), torch.tensor([5]), conditions)
    assert prediction.isfinite().all() and prediction.dtype == torch.float32


def test_parts_stored_in_half_precision_load_as_float32(model, tmp_path):
    torch.manual_seed(1)
    half = UniAnimate(PRESETS["test"]).half()
    half.save_pretrained(tmp_path)
    read = UniAnimate.from_pretrained(tmp_path, device="cpu", dtype=torch.float32)
    assert all(p.dtype == torch.float32 for p in read.parameters())
    size = sum(p.stat().st_size for p in tmp_path.rglob("*.safetensors"))
    assert size < 2.1 * sum(p.numel() for p in read.parameters()) + 200_000  # headers


def test_the_default_dtype_is_what_the_cpu_is_good_at(folder, monkeypatch, caplog):
    for has, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(devices_module, "_cpu_has_bfloat16", lambda has=has: has)
        with caplog.at_level("INFO"):
            assert default_dtype(torch.device("cpu")) == dtype
        assert str(dtype).removeprefix("torch.") in caplog.text
        assert UniAnimate.from_pretrained(folder, device="cpu").dtype == dtype
        caplog.clear()
    assert default_dtype(torch.device("cuda")) == torch.float16


def test_a_name_is_a_folder_in_the_data_home(folder, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert data_home() == tmp_path / "unianimate"
    data_home().mkdir()
    folder.rename(data_home() / "named")
    assert model_folder("named") == data_home() / "named"
    with pytest.raises(FileNotFoundError, match=r"no model 'other'.*unianimate convert"):
        model_folder("other")


def test_weights_that_do_not_fit_are_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    config["unet"]["context_dim"] = 64
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="does not fit"):
        UniAnimate.from_pretrained(folder)
    config["unet"]["contxt_dim"] = 64
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="contxt_dim"):
        UniAnimate.from_pretrained(folder)


def test_a_text_of_another_length_is_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    config["text_tokens"] = 7
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"text_embeds \(1, 7, 32\)"):
        UniAnimate.from_pretrained(folder, device="cpu")


def test_offload_puts_one_part_at_a_time_on_the_device(folder, monkeypatch):
    model = UniAnimate.from_pretrained(folder, device="meta", dtype=torch.float32, offload=True)
    assert model.device == torch.device("meta")
    moves = []
    move = nn.Module.to

    def record(self, device):
        moves.append((type(self).__name__, str(device)))
        # weights would be lost on the meta device; the order of moves is what is tested
        return move(self, "cpu")

    monkeypatch.setattr(nn.Module, "to", record)
    with model.using("vae") as vae:
        assert vae is model.vae
    with pytest.raises(RuntimeError, match="in the middle"), model.using("unet"):
        raise RuntimeError("in the middle")
    assert moves == [("VAE", "meta"), ("VAE", "cpu"), ("UNet3D", "meta"), ("UNet3D", "cpu")]
    with pytest.raises(ValueError, match="part must be"), model.using("text"):
        pass


def test_without_offload_parts_stay_where_they_are(model, monkeypatch):
    monkeypatch.setattr(nn.Module, "to", lambda *_: pytest.fail("moved"))
    with model.using("unet") as unet:
        assert unet is model.unet
    assert model.device == torch.device("cpu")


def test_every_public_name_is_there():
    import unianimate
    import unianimate.blocks
    import unianimate.models

    for package in (unianimate, unianimate.blocks, unianimate.models):
        for name in package.__all__:
            assert getattr(package, name) is not None
        with pytest.raises(AttributeError):
            package.nothing_of_the_kind  # noqa: B018
