import gc

import pytest
import torch
from golden import golden_weights, load_golden, official_shapes

from unianimate.models.checkpoints import (
    image_encoder_from_official,
    text_encoder_from_official,
    unet_from_official,
    unet_to_official,
    vae_from_official,
)
from unianimate.models.checkpoints.files import (
    CheckpointError,
    read_checkpoint,
    write_safetensors,
)
from unianimate.models.configs import packaged_config
from unianimate.models.image_encoder import ImageEncoder
from unianimate.models.text_encoder import build_text_encoder
from unianimate.models.unet3d import UNet3D, UNet3DConfig
from unianimate.models.vae import VAE


def meta(shapes):
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def shapes(state):
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def parameters(state):
    return sum(tensor.numel() for tensor in state.values())


def test_full_size_unet_both_ways():
    official = meta(official_shapes("unet"))
    ours = unet_from_official(official)
    assert len(ours) == 1544 and parameters(ours) == 1_416_564_300
    with torch.device("meta"):
        model = UNet3D(UNet3DConfig.from_official({}))
    assert shapes(ours) == shapes(model.state_dict())
    assert shapes(unet_to_official(ours)) == shapes(official)
    assert ours["init_temporal.proj_in.weight"].shape == (512, 320)


def test_small_unet_goes_back_bit_for_bit():
    _, notes = load_golden("unet_small")
    official = golden_weights(notes["state_dict"])
    ours = unet_from_official(official)
    back = unet_to_official(ours)
    assert list(back) != list(ours) and back.keys() == official.keys()
    assert all(torch.equal(back[name], official[name]) for name in official)
    # views: nothing is copied
    assert all(
        tensor.untyped_storage().data_ptr() == official[name].untyped_storage().data_ptr()
        for name, tensor in back.items()
    )


def test_full_size_vae_fits_the_packaged_config():
    ours = vae_from_official(meta(official_shapes("vae")))
    with torch.device("meta"):
        model = VAE().model
    assert shapes(ours) == shapes(model.state_dict())
    assert len(ours) == 248 and parameters(ours) == 83_653_863


def test_full_size_clip_towers_fit_the_packaged_configs():
    official = meta(official_shapes("clip"))
    with torch.device("meta"):
        vision = ImageEncoder().model
        text = build_text_encoder(packaged_config("text_encoder"))
    converted = image_encoder_from_official(official)
    assert shapes(converted) == shapes(vision.state_dict())
    assert parameters(converted) == 632_076_800
    assert shapes(text_encoder_from_official(official)) == shapes(text.state_dict())


MAPS = [
    (unet_from_official, "unet"),
    (vae_from_official, "vae"),
    (image_encoder_from_official, "clip"),
    (text_encoder_from_official, "clip"),
]


@pytest.mark.parametrize("key_map, part", MAPS, ids=lambda x: getattr(x, "__name__", x))
def test_every_single_missing_key_is_named(key_map, part):
    official = meta(official_shapes(part))
    if part == "clip":
        # the other tower may be absent; the last text block is only looked at by its number
        own = "visual." if key_map is image_encoder_from_official else ""
        towers = [k for k in official if k.startswith("visual.") == bool(own)]
        keys = [k for k in towers if "resblocks.23." not in k or own]
        keys = [k for k in keys if k.startswith(own) and k != "logit_scale"]
    else:
        keys = list(official)
    # every kind of name, without every layer of it
    for key in keys[:: max(1, len(keys) // 60)]:
        rest = {k: v for k, v in official.items() if k != key}
        with pytest.raises(ValueError, match=f"{key_map.__name__}: keys .*missing") as error:
            key_map(rest)
        assert key in str(error.value)
    gc.collect()


@pytest.mark.parametrize("key_map, part", MAPS, ids=lambda x: getattr(x, "__name__", x))
@pytest.mark.parametrize("extra", ["ema.decay", "transformer.resblocks.3.gate", "visual.bias"])
def test_a_left_over_key_is_named(key_map, part, extra):
    official = meta({**official_shapes(part), extra: [3]})
    with pytest.raises(ValueError, match=f"{key_map.__name__}: keys 1 left over: {extra}"):
        key_map(official)


def test_a_lost_block_is_noticed():
    official = meta(official_shapes("unet"))
    for lost in ("input_blocks.5.", "input_blocks.9.", "input_blocks.11.", "output_blocks.11."):
        rest = {k: v for k, v in official.items() if not k.startswith(lost)}
        with pytest.raises(ValueError, match="unet_from_official: keys"):
            unet_from_official(rest)


def test_ignored_towers_may_be_absent():
    official = meta(official_shapes("clip"))
    visual = {k: v for k, v in official.items() if k.startswith("visual.")}
    text = {k: v for k, v in official.items() if not k.startswith("visual.")}
    assert len(image_encoder_from_official(visual)) == 520
    assert len(text_encoder_from_official(text)) == 373


def test_a_file_that_may_not_be_read_is_not_called_truncated(tmp_path, monkeypatch):
    file = tmp_path / "model.safetensors"
    write_safetensors(file, {"weight": torch.ones(2)})

    def forbidden(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("unianimate.models.checkpoints.files.load_file", forbidden)
    with pytest.raises(CheckpointError, match="it may not be read: Permission denied"):
        read_checkpoint(file)


def test_other_temporal_mixers_have_no_official_form():
    ours = unet_from_official(meta(official_shapes("unet")))
    ours["down.0.blocks.0.temporal.A_log"] = torch.empty(3, device="meta")
    with pytest.raises(ValueError, match=r"left over: down\.0\.blocks\.0\.temporal\.A_log"):
        unet_to_official(ours)
