"""Model folders that are damaged, and weights that would run code."""

import json
import os
import pickle
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

UNET, VAE = "unet/model.safetensors", "vae/diffusion_pytorch_model.safetensors"


class Exploit:
    def __reduce__(self):
        return os.system, ("touch pwned",)


def write(content):
    return lambda path: path.write_bytes(content)


def cut(share):
    return lambda path: path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


def change_config(**entries):
    def change(path):
        path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))

    return change


def change_weights(**entries):
    """Put tensors in, or take them out with None, by the first name."""

    def change(path):
        state = load_file(path)
        first = next(iter(state))
        if "first" in entries:
            state.pop(first) if entries["first"] is None else state.update(
                {first: entries["first"]}
            )
        state.update({name: value for name, value in entries.items() if name != "first"})
        save_file(state, path)

    return change


MODELS = {
    "no config": ("config.json", os.remove, "found no config.json"),
    "empty config": ("config.json", write(b""), "config.json"),
    "config is no json": ("config.json", write(b"{width: 3}"), "config.json"),
    "config is a list": ("config.json", write(b"[1]"), "config.json"),
    "config is no text": ("config.json", write(b"\xff\xfe\x00\x01"), "config.json"),
    "unknown entry": ("config.json", change_config(colour="red"), "colour"),
    "impossible size": ("config.json", change_config(width=-32), "width"),
    "text for a number": ("config.json", change_config(steps="many"), "steps"),
    "no network": (UNET, os.remove, "no such file"),
    "empty network": (UNET, write(b""), "truncated, or not a file of weights"),
    "text for a network": (UNET, write(b"version https://git-lfs.github.com/spec/v1"), "truncated"),
    "half a network": (UNET, cut(0.5), "truncated"),
    "network without its end": (UNET, cut(0.999), "truncated"),
    "header that lies": (UNET, write(b"\xff" * 8 + b"{}"), "truncated"),
    "pickle for a network": (UNET, write(pickle.dumps(Exploit())), "truncated"),
    "weight of another shape": (UNET, change_weights(first=torch.zeros(3)), "does not fit"),
    "weight missing": (UNET, change_weights(first=None), "does not fit the model"),
    "weight too many": (UNET, change_weights(extra=torch.zeros(3)), "extra left over"),
    "folder for weights": (UNET, lambda path: (path.unlink(), path.mkdir()), "model.safetensors"),
    "no vae": (VAE, os.remove, "no such file"),
    "half a vae": (VAE, cut(0.5), "truncated"),
    "no vae config": ("vae/config.json", os.remove, "config.json: no such file"),
    "vae config is no json": ("vae/config.json", write(b"?"), "config.json"),
    "no image encoder": ("image_encoder", shutil.rmtree, "image_encoder"),
    "no text": ("empty_text.safetensors", os.remove, "empty_text.safetensors: no such file"),
    "other text": (
        "empty_text.safetensors",
        change_weights(first=torch.zeros(1, 9, 9)),
        "must hold text_embeds",
    ),
}


@pytest.mark.parametrize("case", MODELS)
def test_a_damaged_model_is_refused(here, good, animate_refused, case):
    name, change, says = MODELS[case]
    shutil.copytree(good / "model", here / "spoiled")
    change(here / "spoiled" / name)
    animate_refused(model="spoiled", says=says)
    assert not (here / "pwned").exists()


@pytest.mark.parametrize("name", ["nothing", "dance.npz", "a/b/c", "two\nlines", "~nobody", ""])
def test_what_is_no_model_is_refused(animate_refused, name):
    animate_refused(model=name, says="no model ")


def exploits(path) -> dict:
    """Write weights that run a command when they are unpickled, in every container there is."""
    torch.save({"state_dict": {"w": Exploit()}}, path / "zip.pth")
    torch.save({"w": Exploit()}, path / "old.pth", _use_new_zipfile_serialization=False)
    (path / "bare.pth").write_bytes(pickle.dumps({"state_dict": Exploit()}))
    (path / "renamed.safetensors").write_bytes(pickle.dumps(Exploit()))
    return {name: path / name for name in ("zip.pth", "old.pth", "bare.pth", "renamed.safetensors")}


def test_the_exploit_works_where_nothing_refuses_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.load(exploits(tmp_path)["zip.pth"], weights_only=False)
    assert (tmp_path / "pwned").exists()


@pytest.mark.parametrize("name", ["zip.pth", "old.pth", "bare.pth", "renamed.safetensors"])
def test_weights_that_run_code_are_refused_and_do_not_run(tmp_path, monkeypatch, name):
    from unianimate.models.checkpoints.files import CheckpointError, read_checkpoint

    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=f"{name}: (refused, it holds code|truncated)"):
        read_checkpoint(exploits(tmp_path)[name])
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("name", ["zip.pth", "old.pth", "bare.pth"])
def test_convert_refuses_weights_that_run_code(here, refused, name):
    folder = here / "official"
    folder.mkdir()
    exploits(folder)[name].rename(folder / "unianimate_16f_32f_non_ema_223000.pth")
    for other in folder.glob("*.pth"):
        if other.name != "unianimate_16f_32f_non_ema_223000.pth":
            other.unlink()
    (folder / "renamed.safetensors").unlink()
    refused("convert", "official", "-o", "made", says="official")
    assert not (here / "pwned").exists()
