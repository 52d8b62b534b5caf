"""Every block against what the official class of the same weights gives."""

import re

import pytest
import torch
from golden import golden_weights, load_golden

from unianimate.blocks import (
    Downsample,
    ResnetBlock,
    SpatialTransformer,
    TemporalAdapter,
    TemporalConvBlock,
    TemporalTransformer,
    Upsample,
)
from unianimate.blocks.embeddings import sinusoidal_embedding

TENSORS, NOTES = load_golden("blocks")
BATCH, FRAMES = NOTES["b"], NOTES["f"]
CHANNELS, WIDE, HEADS, HEAD_DIM = (NOTES["args"][k] for k in ("c1", "c2", "heads", "dh"))
TOLERANCE = 1e-5

# official name -> ours, in the order they are applied
RENAMES = [
    (r"in_layers\.0", "norm1"),
    (r"in_layers\.2", "conv1"),
    (r"emb_layers\.1", "emb_proj"),
    (r"out_layers\.0", "norm2"),
    (r"out_layers\.3", "conv2"),
    (r"skip_connection", "skip"),
    (r"temopral_conv\.", "temporal_conv."),
    (r"transformer_blocks\.0\.", ""),
    (r"to_out\.0", "to_out"),
    (r"ff\.net\.0\.proj", "ff.proj"),
    (r"ff\.net\.2", "ff.out"),
    (r"layers\.0\.0\.fn\.", ""),
    (r"layers\.0\.0\.", ""),
    (r"layers\.0\.1\.net\.0\.0", "ff.0"),
    (r"layers\.0\.1\.net\.2", "ff.2"),
    (r"^op\.", "conv."),
]


def our_name(official: str) -> str:
    for pattern, ours in RENAMES:
        official = re.sub(pattern, ours, official)
    stage = re.match(r"(temporal_conv\.)?conv([1-4])\.([023])\.", official)
    if stage:
        kind = "norms" if stage[3] == "0" else "convs"
        official = f"{stage[1] or ''}{kind}.{int(stage[2]) - 1}.{official[stage.end() :]}"
    return official


def load(module, prefix, official_names):
    """Give a module the golden weights of the official keys under a prefix."""
    own = module.state_dict()
    shapes = {name: own[our_name(name)].shape for name in official_names}
    weights = golden_weights(shapes, f"{prefix}.")
    module.load_state_dict({our_name(name): w for name, w in weights.items()})
    return module.eval()


def video(rows):
    """(b f) c h w -> channels-last b c f h w."""
    x = rows.unflatten(0, (-1, FRAMES)).transpose(1, 2)
    return x.contiguous(memory_format=torch.channels_last_3d)


def rows(x):
    return x.transpose(1, 2).flatten(0, 1)


def check(got, name):
    want = TENSORS[f"out.{name}"]
    got = got if got.shape == want.shape else rows(got)
    assert (got - want).abs().max() < TOLERANCE


@pytest.mark.parametrize("name", ["resblock", "resblock_same"])
def test_resnet_block(name):
    same = name == "resblock_same"
    # the list of keys is that of the block that changes channels
    keys = [k for k in NOTES["resblock"] if not (same and "skip" in k)]
    block = ResnetBlock(WIDE if same else CHANNELS, out_dim=WIDE, emb_dim=NOTES["args"]["emb"])
    x = video(TENSORS["input.x_c2" if same else "input.x_c1"])
    with torch.no_grad():
        check(load(block, name, keys)(x, TENSORS["input.emb"]), name)


def test_temporal_conv_block():
    keys = [k.removeprefix("temopral_conv.") for k in NOTES["resblock"] if k.startswith("temopral")]
    block = load(TemporalConvBlock(WIDE), "tconv", keys)
    with torch.no_grad():
        check(block(video(TENSORS["input.x_c2"])), "tconv")


def test_spatial_transformer():
    context = TENSORS["input.ctx"]
    block = SpatialTransformer(
        WIDE, num_heads=HEADS, head_dim=HEAD_DIM, context_dim=context.shape[-1]
    )
    with torch.no_grad():
        check(
            load(block, "spatial", NOTES["spatial"])(video(TENSORS["input.x_c2"]), context),
            "spatial",
        )


@pytest.mark.parametrize("name", ["temporal", "temporal_init"])
def test_temporal_transformer(name):
    if name == "temporal":
        block = TemporalTransformer(WIDE, num_heads=HEADS, head_dim=HEAD_DIM)
        x = TENSORS["input.x_c2"]
    else:
        block = TemporalTransformer(
            CHANNELS, num_heads=NOTES["args"]["init_heads"], head_dim=NOTES["args"]["init_dh"]
        )
        x = TENSORS["input.x_c1"]
    with torch.no_grad():
        check(load(block, name, NOTES[name])(video(x)), name)


def test_temporal_adapter():
    block = load(TemporalAdapter(12), "adapter", NOTES["adapter"])
    x = TENSORS["input.x_adapter"]  # (b h w) f c
    x = x.unflatten(0, (BATCH, 6, 5)).permute(0, 4, 3, 1, 2)
    with torch.no_grad():
        y = block(x).permute(0, 3, 4, 2, 1).flatten(0, 2)
    assert (y - TENSORS["out.adapter"]).abs().max() < TOLERANCE


def test_downsample():
    block = load(Downsample(WIDE), "downsample", ["op.weight", "op.bias"])
    with torch.no_grad():
        check(block(video(TENSORS["input.x_c2"])), "downsample")


def test_upsample():
    block = load(Upsample(WIDE), "upsample", ["conv.weight", "conv.bias"])
    with torch.no_grad():
        got = rows(block(video(TENSORS["input.x_c2"])))[:FRAMES]
    assert (got - TENSORS["out.upsample"]).abs().max() < TOLERANCE


@pytest.mark.parametrize("dim", [32, 33, 320])
def test_sinusoidal_embedding(dim):
    got = sinusoidal_embedding(TENSORS["input.t"], dim)
    assert (got - TENSORS[f"out.sinusoidal_{dim}"]).abs().max() < TOLERANCE
