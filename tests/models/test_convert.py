"""The converter on small official files; the full-size run is marked slow."""

import json
import os
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch
from golden import golden_weights, load_golden, official_shapes
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from unianimate.models.checkpoints import unet_from_official, unet_to_official
from unianimate.models.checkpoints.convert import (
    OFFICIAL_FILES,
    convert_from_official,
    convert_to_official,
)
from unianimate.models.checkpoints.files import CheckpointError, write_safetensors
from unianimate.models.config import UniAnimateConfig
from unianimate.models.configs import packaged_config
from unianimate.models.image_encoder import ImageEncoder
from unianimate.models.presets import PRESETS
from unianimate.models.unet3d import UNet3D, UNet3DConfig
from unianimate.models.unianimate import UniAnimate
from unianimate.models.vae import VAE

CLIP_FILE, VAE_FILE, UNET_FILE = OFFICIAL_FILES
VISION = {
    "hidden_size": 64,
    "intermediate_size": 256,
    "projection_dim": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 56,
    "patch_size": 14,
    "hidden_act": "gelu",
}
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 128,
    "projection_dim": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "hidden_act": "gelu",
}
UNET = {
    "dim": 32,
    "dim_mult": [1, 2],
    "num_res_blocks": 1,
    "attn_scales": [1.0],
    "head_dim": 8,
    "num_heads": 4,
    "context_dim": 32,
}


CONFIG = UniAnimateConfig(
    unet=UNet3DConfig.from_official(UNET),
    width=64,
    height=128,
    vae={**packaged_config("vae"), "block_out_channels": [32, 64, 128, 128]},
    image_encoder=VISION,
)
SMALL = {"config": CONFIG, "text_encoder": TEXT}
with torch.device("meta"):
    UNET_STATE = UNet3D(CONFIG.unet).state_dict()
UNET_PARAMETERS = sum(x.numel() for x in UNET_STATE.values())


@pytest.fixture(scope="module")
def weights():
    official = unet_to_official(UNET_STATE)
    return {
        "unet": golden_weights({name: tuple(x.shape) for name, x in official.items()}),
        **{
            name: golden_weights(notes["state_dict"], notes["key_prefix"])
            for name in ("vae_small", "clip_small")
            for _, notes in [load_golden(name)]
        },
    }


@pytest.fixture(scope="module")
def sources(weights, tmp_path_factory):
    """A folder as a user would have it: the VAE is a part of a Lightning checkpoint."""
    folder = tmp_path_factory.mktemp("official")
    torch.save({"state_dict": weights["unet"], "step": 223000}, folder / UNET_FILE)
    torch.save(weights["clip_small"], folder / CLIP_FILE)
    vae = {f"first_stage_model.{k}": x for k, x in weights["vae_small"].items()}
    others = {"betas": torch.zeros(3), "model.diffusion_model.out.0.bias": torch.zeros(2)}
    content = {"state_dict": {**others, **vae}, "epoch": 1}
    name = "pytorch_lightning.callbacks.model_checkpoint"
    lightning = types.ModuleType(name)
    lightning.ModelCheckpoint = type("ModelCheckpoint", (), {"__module__": name})
    with pytest.MonkeyPatch.context() as patch:
        for parent in ("pytorch_lightning", "pytorch_lightning.callbacks"):
            patch.setitem(sys.modules, parent, types.ModuleType(parent))
        patch.setitem(sys.modules, name, lightning)
        content["callbacks"] = {lightning.ModelCheckpoint: {"best": 0.1}}
        torch.save(content, folder / VAE_FILE)
    return folder


@pytest.fixture(scope="module")
def converted(sources, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "small"
    return convert_from_official([sources], folder, **SMALL)


def test_the_folder_is_complete_and_counted(converted, weights):
    files = {str(p.relative_to(converted.path)) for p in converted.path.rglob("*") if p.is_file()}
    assert files == {
        "config.json",
        "empty_text.safetensors",
        "image_encoder/config.json",
        "image_encoder/model.safetensors",
        "unet/model.safetensors",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
    }
    assert converted.parameters["unet"] == UNET_PARAMETERS
    assert converted.parameters["vae"] == sum(x.numel() for x in weights["vae_small"].values())
    config = json.loads((converted.path / "config.json").read_text())
    assert UniAnimateConfig.from_dict(config) == CONFIG
    assert os.listdir(converted.path.parent) == ["small"]
    assert os.access(converted.path, os.R_OK) and converted.path.stat().st_mode & 0o055 == 0o055


@torch.no_grad()
def test_the_parts_compute_what_the_official_ones_do(converted):
    golden, _ = load_golden("vae_small")
    vae = VAE.from_pretrained(converted.path / "vae")
    mean = vae.encode(golden["input.x"], mean=True)
    torch.testing.assert_close(mean, golden["output.mode_scaled"], atol=3e-5, rtol=0)
    golden, _ = load_golden("clip_small")
    encoder = ImageEncoder.from_pretrained(converted.path / "image_encoder")
    tokens = encoder(golden["input.image"])[:, 0]
    torch.testing.assert_close(tokens, golden["output.image"], atol=1e-5, rtol=0)
    empty = load_file(converted.path / "empty_text.safetensors")
    assert list(empty) == ["text_embeds"]
    torch.testing.assert_close(empty["text_embeds"], golden["output.text0"], atol=1e-5, rtol=0)


def test_the_folder_is_a_model(converted, weights):
    model = UniAnimate.from_pretrained(converted.path, device="cpu", dtype=torch.float32)
    want = unet_from_official(weights["unet"])
    assert all(torch.equal(x, want[name]) for name, x in model.unet.state_dict().items())


def test_there_and_back_is_the_same_checkpoint(converted, weights, tmp_path):
    seen = []
    result = convert_to_official(
        converted.path, tmp_path / "unet.pth", progress=lambda *x: seen.append(x)
    )
    back = torch.load(result.path, weights_only=True)["state_dict"]
    assert back.keys() == weights["unet"].keys()
    assert all(torch.equal(back[k], x) for k, x in weights["unet"].items())
    assert result.parameters == {"unet": UNET_PARAMETERS}
    assert seen[-1][0] == seen[-1][1] == 4 * UNET_PARAMETERS
    assert os.listdir(tmp_path) == ["unet.pth"]


def test_files_in_any_order_and_format(sources, weights, tmp_path):
    old = tmp_path / "unet.pth"
    torch.save(weights["unet"], old, _use_new_zipfile_serialization=False)
    clip = tmp_path / "clip.safetensors"
    save_file(weights["clip_small"], clip)
    seen = []
    folder = tmp_path / "model"
    folder.mkdir()
    convert_from_official(
        [sources / VAE_FILE, old, clip],
        folder,
        **SMALL,
        progress=lambda *x: seen.append(x),
    )
    unet = load_file(folder / "unet/model.safetensors")
    want = unet_from_official(weights["unet"])
    assert unet.keys() == want.keys() and all(torch.equal(unet[k], want[k]) for k in want)
    done, total, part = seen[-1]
    assert done == total and part == "unet"
    assert [x[0] for x in seen] == sorted(x[0] for x in seen)


def refused(sources, folder, match, *, replace=None, **options) -> str:
    """Convert with one file replaced, expect a one-line refusal and nothing written."""
    files = [sources / name for name in OFFICIAL_FILES if name != options.get("without")]
    files = [replace[1] if replace and f.name == replace[0] else f for f in files]
    with pytest.raises(CheckpointError, match=match) as error:
        convert_from_official(files, folder / "model", **SMALL)
    assert "\n" not in str(error.value)
    assert not (folder / "model").exists()
    assert not [name for name in os.listdir(folder) if name.startswith(".")]
    return str(error.value)


class Malice:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_is_refused_and_not_run(sources, weights, tmp_path, zipped):
    bad, trap = tmp_path / "bad.pth", tmp_path / "trap"
    content = {"state_dict": weights["unet"], "x": Malice(trap)}
    torch.save(content, bad, _use_new_zipfile_serialization=zipped)
    refused(sources, tmp_path, "refused, it holds code .*mkdir", replace=(UNET_FILE, bad))
    assert not trap.exists()


@pytest.mark.parametrize("name", OFFICIAL_FILES)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
def test_a_truncated_file_is_refused(sources, tmp_path, name, share):
    data = (sources / name).read_bytes()
    bad = tmp_path / "bad.pth"
    bad.write_bytes(data[: int(share * len(data))])
    refused(sources, tmp_path, "bad.pth: truncated, or not a file", replace=(name, bad))


def test_a_truncated_safetensors_file_is_refused(sources, weights, tmp_path):
    bad = tmp_path / "bad.safetensors"
    save_file(weights["clip_small"], bad)
    bad.write_bytes(bad.read_bytes()[:-100])
    refused(sources, tmp_path, "truncated", replace=(CLIP_FILE, bad))


def test_wrong_files_are_refused(sources, weights, tmp_path):
    bad = tmp_path / "bad.pth"

    def replaced(content, match, name=UNET_FILE):
        torch.save(content, bad)
        return refused(sources, tmp_path, match, replace=(name, bad))

    unet = dict(weights["unet"])
    refused(sources, tmp_path, "no such file", replace=(UNET_FILE, tmp_path / "none.pth"))
    refused(sources, tmp_path, f"no file given for unet .{UNET_FILE}", without=UNET_FILE)
    bad.write_text("<html>404</html>")
    refused(sources, tmp_path, "not a file of weights .16 bytes", replace=(UNET_FILE, bad))
    replaced([1, 2], "holds a list, wanted a dictionary")
    replaced({"a": torch.zeros(2)}, "none of the three official files")
    replaced(weights["clip_small"], "a second clip file")
    replaced({**unet, "extra": 3}, "entry 'extra' is a int")
    replaced({**unet, "extra": torch.zeros(1)}, "keys 1 left over: extra")
    lost = {k: x for k, x in unet.items() if k != "out.2.bias"}
    replaced(lost, "keys 1 missing: out.2.bias")
    shape = {**unet, "out.2.bias": torch.zeros(5)}
    replaced(shape, r"conv_out\.bias is \(5,\), wanted \(4,\)")
    nan = {**unet, "out.2.bias": torch.full((4,), torch.nan)}
    replaced(nan, "'conv_out.bias' holds values that are not finite")


def test_an_existing_model_is_kept(sources, converted, tmp_path):
    before = (converted.path / "unet/model.safetensors").stat().st_mtime_ns
    with pytest.raises(CheckpointError, match="exists already; remove it"):
        convert_from_official([sources], converted.path, **SMALL)
    assert (converted.path / "unet/model.safetensors").stat().st_mtime_ns == before
    taken = tmp_path / "unet.pth"
    taken.write_text("mine")
    with pytest.raises(CheckpointError, match="exists already"):
        convert_to_official(converted.path, taken)
    assert taken.read_text() == "mine"


def test_command_line(sources, tmp_path, monkeypatch):
    import typer
    from typer.testing import CliRunner

    from unianimate.cli.convert import convert

    monkeypatch.setitem(PRESETS, "unianimate-v1", CONFIG)
    monkeypatch.setattr("unianimate.models.checkpoints.convert.packaged_config", lambda _: TEXT)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    app = typer.Typer()
    app.command()(convert)
    there = CliRunner().invoke(app, [str(sources), "--quiet"])
    assert there.exit_code == 0
    assert f"{UNET_PARAMETERS:,} parameters" in there.stdout
    folder = tmp_path / "unianimate" / "unianimate-v1"
    assert (folder / "unet" / "model.safetensors").exists()
    back = CliRunner().invoke(app, ["--to-official", str(folder), "-o", str(tmp_path / "x.pth")])
    assert back.exit_code == 0 and (tmp_path / "x.pth").exists()
    again = CliRunner().invoke(app, [str(sources)])
    assert isinstance(again.exception, CheckpointError)
    wrong = CliRunner().invoke(app, ["--to-official", str(folder)])
    assert "wanted one model folder and -o FILE" in str(wrong.exception)


def test_an_interrupted_conversion_leaves_nothing(sources, tmp_path):
    def stop(done, total, part):
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert_from_official([sources], tmp_path / "model", **SMALL, progress=stop)
    assert os.listdir(tmp_path) == []


def test_a_full_disk_is_noticed_before_writing(sources, tmp_path, monkeypatch):
    usage = types.SimpleNamespace(free=1000)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    refused(sources, tmp_path, "GB are needed and 0.0 GB are free")


def test_other_networks_have_no_way_back(converted, tmp_path):
    state = load_file(converted.path / "unet/model.safetensors")
    state["middle.temporal.A_log"] = torch.zeros(2)
    save_file(state, tmp_path / "mamba.safetensors")
    with pytest.raises(CheckpointError, match=r"official form.*middle\.temporal\.A_log"):
        convert_to_official(tmp_path / "mamba.safetensors", tmp_path / "unet.pth")
    assert not (tmp_path / "unet.pth").exists()


def test_the_streamed_writer_agrees_with_the_library(tmp_path):
    state = {
        "a": torch.randn(3, 5, 2).transpose(0, 2),
        "b": torch.randn(7).to(torch.bfloat16),
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(4),
    }
    write_safetensors(tmp_path / "x.safetensors", state)
    back = load_file(tmp_path / "x.safetensors")
    assert back.keys() == state.keys()
    for name, tensor in state.items():
        assert back[name].dtype == tensor.dtype and torch.equal(back[name], tensor)
    with safe_open(tmp_path / "x.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}


FULL_SIZE = """
import re, sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from unianimate.models.checkpoints.convert import convert_from_official, convert_to_official

def peak():
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", status).group(1))

folder = Path(sys.argv[1])
result = convert_from_official([folder], folder / "model")
print(result.parameters["unet"])
print(peak())
convert_to_official(folder / "model", folder / "back.pth")
print(peak())
"""


@pytest.fixture
def large_folder(tmp_path):
    """A folder that goes at once: pytest keeps its own for three runs, and these are 24 GB."""
    yield tmp_path
    shutil.rmtree(tmp_path)


def full_size_file(part: str, path: Path, prefix: str = "") -> None:
    """Write a file of the official size; every tensor is zero but for its number at the front."""
    state = {}
    for i, (name, shape) in enumerate(official_shapes(part).items()):
        state[prefix + name] = torch.zeros(shape)
        state[prefix + name].view(-1)[0] = i + 1
    torch.save({"state_dict": state}, path)


@pytest.mark.huge
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's VmHWM")
def test_full_size_in_little_more_memory_than_the_largest_file(large_folder):
    full_size_file("unet", large_folder / UNET_FILE)
    full_size_file("clip", large_folder / CLIP_FILE)
    full_size_file("vae", large_folder / VAE_FILE, prefix="first_stage_model.")
    largest = (large_folder / UNET_FILE).stat().st_size
    paths = [p for p in sys.path if p]
    run = subprocess.run(
        [sys.executable, "-c", FULL_SIZE, str(large_folder), *paths],
        check=True,
        capture_output=True,
        text=True,
    )
    count, peak, peak_back = map(int, run.stdout.split())
    print(f"largest file {largest:,}, peak {peak / largest:.3f}, back {peak_back / largest:.3f}")
    assert count == 1_416_564_300
    assert peak < 1.3 * largest and peak_back < 1.3 * largest
    back = torch.load(large_folder / "back.pth", mmap=True, weights_only=True)["state_dict"]
    for i, name in enumerate(official_shapes("unet")):
        assert back[name].view(-1)[0] == i + 1
