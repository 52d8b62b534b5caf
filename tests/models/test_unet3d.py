"""Conditions, configuration, mixers and training properties of the network."""

import json
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from unianimate.models import (
    PRESETS,
    LevelSpec,
    Mamba2Spec,
    MambaSpec,
    TemporalTransformerSpec,
    UNet3D,
    UNet3DConfig,
    predict_both,
)
from unianimate_kernels import keep_packed_weights, use_backend

CONFIG = PRESETS["test"].unet
MIXERS = {
    "transformer": CONFIG.temporal,
    "mamba": MambaSpec(d_state=4),
    "mamba2": Mamba2Spec(d_state=8, head_dim=16),
}
SIZE = (8, 4)
mixers = pytest.mark.parametrize("mixer", MIXERS)


def build(temporal=CONFIG.temporal, seed=0, **changes):
    torch.manual_seed(seed)
    return UNet3D(replace(CONFIG, temporal=temporal, **changes))


def randomised(net, seed=1):
    """Give every weight that starts at zero a small random value."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            if not parameter.any():
                parameter.normal_(std=0.05, generator=generator)
    return net


def inputs(batch=1, frames=3, config=CONFIG, seed=2):
    g = torch.Generator().manual_seed(seed)
    pixels = (8 * SIZE[0], 8 * SIZE[1])
    tokens = 1 if config.image_tokens == "projected" else config.num_tokens
    return {
        "text_embeds": torch.randn(1, 3, config.context_dim, generator=g),
        "image_embeds": torch.randn(batch, tokens, config.context_dim, generator=g),
        "pose": torch.rand(batch, 3, frames, *pixels, generator=g),
        "reference_pose": torch.rand(batch, 3, *pixels, generator=g),
        "reference_latents": torch.randn(batch, config.in_channels, *SIZE, generator=g),
        "first_frame": torch.rand(batch, 3, *pixels, generator=g),
    }


def encode(net, given, frames=3):
    return net.encode_conditions(**given, num_frames=frames, latent_size=SIZE)


def noisy(batch=1, frames=3, channels=4, seed=3):
    g = torch.Generator().manual_seed(seed)
    sample = torch.randn(batch, channels, frames, *SIZE, generator=g)
    return sample, torch.randint(0, 1000, (batch,), generator=g)


def error(a, b):
    return (a - b).abs().max().item()


# conditions


@pytest.mark.parametrize("window", [[0, 1, 2], [4, 5, 6, 7], [7, 3, 3], [5]])
@pytest.mark.parametrize("reference_in_every_frame", [False, True])
def test_select_equals_encoding_the_cut_poses(window, reference_in_every_frame):
    net = build(reference_in_every_frame=reference_in_every_frame).eval()
    given = inputs(batch=2, frames=8)
    selected = encode(net, given, frames=8).select(window)
    cut = encode(net, {**given, "pose": given["pose"][:, :, window]}, frames=len(window))
    for got, want in zip(selected.tensors, cut.tensors):
        assert error(got, want) < 1e-5


def test_the_adapter_never_sees_more_frames_than_the_window():
    net, seen = build(), []
    net.pose_encoder.temporal.register_forward_hook(
        lambda _, args, __: seen.append(args[0].shape[2])
    )
    long = encode(net, inputs(frames=9), frames=9)
    net(*noisy(frames=3), long.select(range(2, 5)))
    assert seen == [3]


@pytest.mark.parametrize("frames", [[-1], [3], [], [[0]]])
def test_select_refuses_frames_that_are_not_there(frames):
    with pytest.raises(ValueError, match=r"Conditions\.select"):
        encode(build(), inputs()).select(frames)


def test_conditions_are_encoded_once():
    net, calls = build(), []
    for encoder in (net.pose_encoder.spatial, net.pose_encoder.temporal, net.reference_encoder):
        encoder.register_forward_hook(lambda *_: calls.append(1))
    conditions = encode(net, inputs())
    for _ in range(3):
        net(*noisy(), conditions)
    assert len(calls) == 3


def test_a_reference_pose_without_a_reference_changes_nothing():
    net, given = build().eval(), inputs()
    given["reference_latents"] = None
    without = encode(net, {**given, "reference_pose": None})
    for got, want in zip(encode(net, given).tensors, without.tensors):
        assert torch.equal(got, want)
    assert not without.tensors.reference.any()


def test_a_reference_needs_no_pose():
    given = {**inputs(), "reference_pose": None, "pose": None}
    assert encode(build(), given).tensors.reference.any()


def test_conditions_of_one_item_serve_a_batch():
    net = randomised(build()).eval()
    sample, t = noisy(batch=2)
    with torch.no_grad():
        both = net(sample, t, encode(net, inputs()))
        alone = torch.cat(
            [net(sample[i : i + 1], t[i : i + 1], encode(net, inputs())) for i in (0, 1)]
        )
    assert error(both, alone) < 1e-5


@pytest.mark.parametrize("batch", [1, 2])
def test_guidance_as_one_batch_equals_one_after_the_other(batch):
    net = randomised(build()).eval()
    conditional = encode(net, inputs(batch=batch))
    unconditional = encode(net, {"text_embeds": inputs()["text_embeds"]})
    sample, t = noisy(batch=batch)
    with torch.no_grad():
        joined = predict_both(net, sample, t, conditional, unconditional)
        apart = predict_both(net, sample, t, conditional, unconditional, low_memory=True)
    assert max(error(a, b) for a, b in zip(joined, apart)) < 1e-5
    assert error(*joined) > 1e-3


def share(mask):
    return mask.float().mean().item()


def test_dropped_conditions_are_zero_and_the_others_stay():
    net = build().eval()
    batch = 400
    given = inputs(batch=batch)
    whole = encode(net, given)
    dropped = whole.dropped(torch.Generator().manual_seed(0), p=0.5, p_all_zero=0.1, p_all_keep=0.1)
    image = dropped.image.abs().amax((1, 2)) > 0
    frame = dropped.first_frame.abs().amax((1, 2, 3, 4)) > 0
    pose = dropped.pose_kept > 0
    for mask in (image, frame, pose):
        # zero in 10 %, kept in 10 %; of the others half of the whole batch, as the official code
        assert 0.3 < share(mask) < 0.5
    assert share(image | frame | pose) < 0.93
    assert 0.08 < share(image & frame & pose) < 0.3
    assert torch.equal(dropped.image[image], whole.image[image])
    assert torch.equal(dropped.tensors.reference, whole.tensors.reference)
    assert torch.equal(dropped.text, whole.text)
    lost = ~frame & ~pose
    assert not dropped.tensors.frames[lost].any()
    kept = frame & pose
    assert torch.equal(dropped.tensors.frames[kept], whole.tensors.frames[kept])


def test_dropping_all_or_nothing():
    whole = encode(build().eval(), inputs(batch=3))
    nothing = whole.dropped(p=0.0, p_all_zero=0.0)
    for got, want in zip(nothing.tensors, whole.tensors):
        assert torch.equal(got, want)
    everything = whole.dropped(p_all_zero=1.0)
    assert not everything.tensors.frames.any()
    assert not everything.image.any()


def test_dropping_is_reproducible_and_survives_select():
    whole = encode(build().eval(), inputs(batch=6))
    a, b = (whole.dropped(torch.Generator().manual_seed(5)) for _ in range(2))
    assert all(torch.equal(x, y) for x, y in zip(a.tensors, b.tensors))
    assert torch.equal(a.select([1]).pose_kept, a.pose_kept)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"pose": torch.rand(1, 3, 2, 64, 32)}, r"pose must be \(B, 3, 3, 64, 32\)"),
        ({"pose": torch.rand(1, 3, 3, 32, 32)}, "pose must be"),
        ({"reference_latents": torch.rand(1, 3, 8, 4)}, "reference_latents must be"),
        ({"image_embeds": torch.rand(1, 2, 32)}, r"image_embeds must be \(B, 1, 32\)"),
        ({"text_embeds": torch.rand(1, 2, 16)}, r"text_embeds must be \(B, L, 32\)"),
        ({"first_frame": torch.rand(2, 3, 64, 32)}, "batch sizes differ"),
    ],
)
def test_conditions_of_wrong_shape_are_refused(changes, text):
    with pytest.raises(ValueError, match=text):
        encode(build(), {**inputs(), **changes})


def test_wrong_sizes_are_refused():
    net = build()
    with pytest.raises(ValueError, match="multiples of 16 pixels"):
        net.encode_conditions(inputs()["text_embeds"], num_frames=3, latent_size=(5, 4))
    conditions = encode(net, inputs())
    with pytest.raises(ValueError, match="sample must be"):
        net(noisy(frames=4)[0], torch.tensor([1]), conditions)
    with pytest.raises(ValueError, match="timestep must have shape"):
        net(noisy()[0], torch.tensor([1, 2]), conditions)
    with pytest.raises(ValueError, match="batch of 2"):
        net(*noisy(batch=3), encode(net, inputs(batch=2)))


def test_patch_tokens_are_used_as_they_are():
    net = build(image_tokens="patches", num_tokens=5)
    given = inputs(config=net.config)
    assert torch.equal(encode(net, given).image, given["image_embeds"])
    assert net.image_projection is None


def test_the_reference_in_every_frame_has_no_weights_of_its_own():
    plain, everywhere = build().eval(), build(reference_in_every_frame=True).eval()
    everywhere.load_state_dict(plain.state_dict())
    given = {**inputs(), "pose": None, "first_frame": None}
    assert not encode(plain, given).tensors.frames.any()
    frames, reference, _ = encode(everywhere, given).tensors
    assert torch.equal(frames, reference[:, 4:].expand_as(frames))


# mixers


@pytest.mark.parametrize("mixer", ["mamba", "mamba2"])
def test_fresh_mamba_mixers_change_nothing(mixer):
    plain = randomised(build(temporal=None))
    net = build(temporal=MIXERS[mixer], seed=7)
    net.load_without_mixers(plain.state_dict())
    with torch.no_grad():
        want = plain.eval()(*noisy(), encode(plain, inputs()))
        got = net.eval()(*noisy(), encode(net, inputs()))
    assert torch.equal(got, want)


def test_a_mamba_network_starts_from_one_with_attention():
    attention = randomised(build())
    net = build(temporal=MIXERS["mamba2"])
    net.load_without_mixers(attention.state_dict())
    ours, theirs = net.state_dict(), attention.state_dict()
    shared = [name for name in ours if name in theirs]
    assert "middle.resnet_in.temporal_conv.convs.0.weight" in shared
    assert "pose_encoder.temporal.to_qkv.weight" in shared
    for name in shared:
        if ".temporal.norm" not in name and "init_temporal" not in name:
            assert torch.equal(ours[name], theirs[name]), name


def test_loading_without_mixers_names_what_does_not_fit():
    state = build().state_dict()
    del state["conv_in.bias"]
    with pytest.raises(ValueError, match=r"conv_in\.bias"):
        build(temporal=None).load_without_mixers(state)
    with pytest.raises(ValueError, match=r"left over.*extra"):
        build().load_without_mixers({**build().state_dict(), "extra": torch.zeros(1)})


def test_mixers_can_differ_from_level_to_level():
    net = randomised(build(temporal=(MIXERS["mamba2"], MIXERS["transformer"]))).eval()
    kinds = {name: type(m).__name__ for name, m in net.named_modules() if name.endswith("temporal")}
    assert kinds["init_temporal"] == kinds["down.0.blocks.0.temporal"] == "TemporalMamba2"
    assert kinds["middle.temporal"] == kinds["up.0.blocks.1.temporal"] == "TemporalTransformer"
    assert kinds["up.1.blocks.0.temporal"] == "TemporalMamba2"
    assert net(*noisy(), encode(net, inputs())).isfinite().all()


# training


@mixers
def test_every_parameter_has_a_finite_gradient(mixer):
    net = randomised(build(temporal=MIXERS[mixer]))
    prediction = net(*noisy(batch=2), encode(net, inputs(batch=2)))
    prediction.square().mean().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_conditions_seen_without_gradients_still_give_them():
    net = randomised(build())
    sample, t = noisy()
    conditions = encode(net, inputs())
    with use_backend("reference"):  # the ops for inference round in another order
        with torch.no_grad():
            before = net(sample, t, conditions)
        after = net(sample, t, conditions)
    after.sum().backward()
    assert torch.equal(before, after)
    assert all(p.grad is not None for p in net.pose_encoder.parameters())


def test_gradient_checkpointing_changes_no_gradient():
    net = randomised(build())

    def gradients():
        net.zero_grad()
        net(*noisy(), encode(net, inputs())).square().mean().backward()
        return [p.grad.clone() for p in net.parameters()]

    plain = gradients()
    calls = []
    net.middle.register_forward_pre_hook(lambda *_: calls.append(1))
    net.gradient_checkpointing = True
    assert all(torch.equal(a, b) for a, b in zip(gradients(), plain))
    assert len(calls) == 2  # forward, and again in the backward pass


@pytest.mark.slow
@mixers
def test_overfitting_one_clip(mixer):
    net = build(temporal=MIXERS[mixer]).train()
    sample, t = noisy(frames=4)
    target = torch.randn(sample.shape, generator=torch.Generator().manual_seed(9))
    given = inputs(frames=4)
    optimiser = torch.optim.AdamW(net.parameters(), lr=2e-3)
    losses = []
    for _ in range(150):
        loss = nn.functional.mse_loss(net(sample, t, encode(net, given, frames=4)), target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
        if losses[-1] < 0.1 * losses[0]:
            return
    pytest.fail(f"150 steps of one clip left {losses[-1]:.3f} of {losses[0]:.3f}")


HYBRID = (MIXERS["mamba2"], MIXERS["transformer"])


@pytest.mark.parametrize(
    ("temporal", "backend", "kept"),
    [
        # graph breaks are found before a backend is asked
        pytest.param(HYBRID, "eager", nullcontext, id="hybrid"),
        pytest.param(HYBRID, "eager", keep_packed_weights, id="hybrid-kept"),
        pytest.param(HYBRID, "aot_eager", nullcontext, id="hybrid-aot", marks=pytest.mark.slow),
        pytest.param(
            MIXERS["mamba"], "aot_eager", nullcontext, id="mamba-aot", marks=pytest.mark.slow
        ),
    ],
)
def test_compiles_without_a_graph_break(temporal, backend, kept):
    torch.compiler.reset()
    net = randomised(build(temporal=temporal)).eval()
    compiled = torch.compile(net, backend=backend, fullgraph=True)
    with torch.no_grad(), kept():
        conditions = encode(net, inputs())
        assert error(compiled(*noisy(), conditions), net(*noisy(), conditions)) < 1e-5


def test_predictions_come_in_the_dtype_of_the_sample():
    net = randomised(build()).eval()
    sample, t = noisy()
    with torch.no_grad():
        want = net(sample, t, encode(net, inputs()))
        net.bfloat16()
        got = net(sample, t, encode(net, inputs()))
    assert got.dtype == torch.float32
    assert (got - want).norm() < 0.05 * want.norm()


def test_autocast_trains_float32_weights():
    net = randomised(build())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        prediction = net(*noisy(), encode(net, inputs()))
    prediction.square().mean().backward()
    assert all(p.grad.dtype == torch.float32 for p in net.parameters())
    assert all(p.grad.isfinite().all() for p in net.parameters())


# configuration


def test_the_defaults_are_the_official_network():
    assert UNet3DConfig.from_official({}) == UNet3DConfig()
    assert UNet3DConfig().size_multiple == 64


def test_an_official_block_with_everything_it_holds():
    block = {
        "type": "UNetSD_UniAnimate", "config": None, "in_dim": 4, "dim": 320, "y_dim": 1024,
        "context_dim": 1024, "out_dim": 4, "dim_mult": [1, 2, 4, 4], "num_heads": 8,
        "head_dim": 64, "num_res_blocks": 2, "dropout": 0.1, "temporal_attention": True,
        "num_tokens": 4, "temporal_attn_times": 1, "use_checkpoint": True,
        "use_fps_condition": False, "use_sim_mask": False,
    }  # fmt: skip
    assert UNet3DConfig.from_official(block) == UNet3DConfig()


@pytest.mark.parametrize(
    ("block", "text"),
    [
        ({"dim_mul": [1]}, "did you mean 'dim_mult'"),
        ({"attn_scale": [1]}, "did you mean 'attn_scales'"),
        ({"temporal_attention": False}, "temporal_attention must be True"),
        ({"use_fps_condition": True}, "use_fps_condition must be False"),
    ],
)
def test_official_keys_that_cannot_be_served(block, text):
    with pytest.raises(ValueError, match=text):
        UNet3DConfig.from_official(block)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_json(name):
    config = PRESETS[name]
    assert type(config).from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert UNet3DConfig.from_dict(json.loads(json.dumps(config.unet.to_dict()))) == config.unet


def test_a_hybrid_survives_json():
    config = replace(CONFIG, temporal=(MambaSpec(), None))
    assert UNet3DConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"levels": ()}, "at least one level"),
        ({"temporal": (None,)}, "one a level"),
        ({"dim": 33}, "multiple of 32"),
        ({"levels": (LevelSpec(channels=40),)}, r"levels\[0\]\.channels"),
        ({"chanels": 3}, "chanels"),
    ],
)
def test_configurations_that_do_not_fit(changes, text):
    with pytest.raises(ValidationError, match=text):
        UNet3DConfig.from_dict({**CONFIG.to_dict(), **changes})


@pytest.mark.parametrize("change", [{"channels": 64, "deep": 2}, {"channels": "wide"}])
def test_levels_refuse_what_they_do_not_know(change):
    with pytest.raises(ValidationError):
        LevelSpec(**change)


def test_the_presets_of_official_size():
    sizes = {}
    for name in ("unianimate-v1", "unianimate-v1-mamba", "unianimate-v1-mamba2"):
        with torch.device("meta"):
            net = UNet3D(PRESETS[name].unet)
        sizes[name] = sum(p.numel() for p in net.parameters())
        assert isinstance(PRESETS[name].unet.temporal, TemporalTransformerSpec) == (
            name == "unianimate-v1"
        )
    assert sizes["unianimate-v1"] == 1_416_564_300
    assert sizes["unianimate-v1-mamba"] < sizes["unianimate-v1"]


def test_the_small_preset_fits_its_budget():
    from unianimate.models import VAE, ImageEncoder

    config = PRESETS["small"]
    assert config.unet.size_multiple == 32 and config.unet.context_dim <= 256
    with torch.device("meta"):
        parts = [UNet3D(config.unet), VAE(config.vae), ImageEncoder(config.image_encoder)]
    unet, vae, encoder = (sum(p.numel() for p in part.parameters()) for part in parts)
    assert vae <= 3_000_000 and encoder <= 1_500_000
    assert 2 * (unet + vae + encoder) <= 25_000_000
