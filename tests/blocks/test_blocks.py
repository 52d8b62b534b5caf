"""What holds for every block, and what the Mamba blocks promise."""

import pytest
import torch
from torch import nn

from unianimate.blocks import (
    Downsample,
    PoseEncoder,
    ReferenceEncoder,
    ResnetBlock,
    SpatialTransformer,
    TemporalAdapter,
    TemporalConvBlock,
    TemporalMamba,
    TemporalMamba2,
    TemporalTransformer,
    TimestepEmbedding,
    Upsample,
    _layout,
    attention,
    temporal_mamba2,
)
from unianimate_kernels import rms_norm

DIM = 32
LAST = torch.channels_last_3d
MIXERS = {
    "transformer": lambda: TemporalTransformer(DIM, head_dim=16),
    "mamba": lambda: TemporalMamba(DIM),
    "mamba shared": lambda: TemporalMamba(DIM, share_dynamics=True),
    "mamba geometric": lambda: TemporalMamba(DIM, decay="geometric"),
    "mamba one way": lambda: TemporalMamba(DIM, bidirectional=False),
    "mamba2": lambda: TemporalMamba2(DIM, d_state=16, head_dim=16),
    "mamba2 one way": lambda: TemporalMamba2(DIM, d_state=16, head_dim=16, bidirectional=False),
}
BLOCKS = {
    **MIXERS,
    "temporal conv": lambda: TemporalConvBlock(DIM),
    "resnet": lambda: ResnetBlock(DIM),
    "resnet wider": lambda: ResnetBlock(DIM, out_dim=64, temporal_conv=False),
    "spatial": lambda: SpatialTransformer(DIM, head_dim=16),
    "downsample": lambda: Downsample(DIM),
    "upsample": lambda: Upsample(DIM),
    "adapter": lambda: TemporalAdapter(DIM),
}
one_way = pytest.mark.parametrize("name", ["mamba one way", "mamba2 one way"])


def randomised(module, seed=0):
    """Give every weight that starts at zero a small random value."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            if not parameter.any():
                parameter.normal_(std=0.1, generator=generator)
    return module


def clip(frames=5, batch=2, seed=0):
    x = torch.randn(batch, DIM, frames, 4, 3, generator=torch.Generator().manual_seed(seed))
    return x.contiguous(memory_format=LAST)


@pytest.mark.parametrize("name", BLOCKS)
def test_channels_last_in_is_channels_last_out(name):
    block = randomised(BLOCKS[name]())
    x = clip()
    y = block(x)
    assert y.is_contiguous(memory_format=LAST)
    # another memory format is taken too, and means the same
    assert (block(x.contiguous()) - y).abs().max() < 1e-5


@pytest.mark.parametrize("name", BLOCKS)
def test_items_of_a_batch_do_not_see_one_another(name):
    block, x = randomised(BLOCKS[name]()), clip()
    alone = torch.cat([block(x[:1]), block(x[1:])])
    assert (block(x) - alone).abs().max() < 1e-5


@pytest.mark.parametrize("name", MIXERS)
def test_a_fresh_mixer_changes_nothing(name):
    x = clip()
    assert torch.equal(MIXERS[name]()(x), x)


@pytest.mark.parametrize("name", MIXERS)
def test_locations_do_not_mix(name):
    block = randomised(MIXERS[name]())
    block.norm = nn.Identity()  # the norm is what mixes locations, by its statistics
    x = clip()
    changed = x.clone(memory_format=torch.preserve_format)
    changed[..., 2, 1] += 1
    difference = (block(changed) - block(x)).abs().amax((0, 1, 2))
    assert difference[2, 1] > 0.1
    difference[2, 1] = 0
    assert difference.max() < 1e-5


@pytest.mark.parametrize("name", ["mamba", "mamba shared", "mamba geometric", "mamba2"])
def test_every_frame_sees_every_other_in_a_bidirectional_mixer(name):
    block, x = randomised(MIXERS[name]()), clip(frames=4)
    block.norm = nn.Identity()
    x.requires_grad_()
    for frame in range(4):
        (gradient,) = torch.autograd.grad(block(x)[:, :, frame].square().sum(), x)
        assert (gradient.abs().amax((0, 1, 3, 4)) > 0).all()


@one_way
def test_a_one_way_mixer_sees_the_past_only(name):
    block, x = randomised(MIXERS[name]()), clip()
    later = x.clone(memory_format=torch.preserve_format)
    later[:, :, 3:] += 1
    assert (block(x)[:, :, :3] - block(later)[:, :, :3]).abs().max() < 1e-6


@one_way
@pytest.mark.parametrize("cuts", [[3], [1, 2], [1, 2, 3, 4, 5, 6]])
def test_streamed_clips_equal_one_long_clip(name, cuts):
    block, x = randomised(MIXERS[name]()).eval(), clip(frames=7)
    with torch.no_grad():
        whole, state, parts = block(x), None, []
        for part in x.tensor_split(cuts, dim=2):
            y, state = block(part, state=state, return_state=True)
            parts.append(y)
    assert (torch.cat(parts, dim=2) - whole).abs().max() < 2e-6


@pytest.mark.parametrize("name", ["mamba", "mamba2"])
def test_a_bidirectional_mixer_refuses_to_stream(name):
    with pytest.raises(ValueError, match="bidirectional=False"):
        MIXERS[name]()(clip(), return_state=True)


@pytest.mark.parametrize("name", MIXERS)
def test_every_parameter_of_a_mixer_gets_a_gradient(name):
    block = randomised(MIXERS[name]())
    block(clip()).square().sum().backward()
    for key, parameter in block.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), key
        assert parameter.grad.any(), key


@pytest.mark.parametrize("name", BLOCKS)
def test_half_precision_stays_half(name):
    block = randomised(BLOCKS[name]())
    want = block(clip())
    got = block.bfloat16()(clip().bfloat16())
    assert got.dtype == torch.bfloat16
    assert (got.float() - want).abs().max() < 0.05 * want.abs().max()


def test_the_context_is_shared_by_the_frames_of_an_item():
    block = randomised(SpatialTransformer(DIM, head_dim=16, context_dim=24))
    x, context = clip(), torch.randn(2, 7, 24)
    frame_by_frame = torch.cat([block(part, context) for part in x.split(1, dim=2)], dim=2)
    assert (block(x, context) - frame_by_frame).abs().max() < 1e-5


def test_encoders_come_to_an_eighth():
    picture = torch.rand(2, 3, 3, 32, 48)
    assert PoseEncoder(8)(picture).shape == (2, 8, 3, 4, 6)
    latents = torch.randn(2, 4, 4, 6)
    encoder = ReferenceEncoder(12)
    assert encoder(latents, picture[:, :, 0]).shape == (2, 12, 1, 4, 6)
    assert not torch.equal(encoder(latents), encoder(latents, picture[:, :, 0]))


def test_without_its_adapter_the_pose_encoder_works_frame_by_frame():
    picture, encoder = torch.rand(1, 3, 3, 16, 16), PoseEncoder(8, temporal=False)
    alone = torch.cat([encoder(part) for part in picture.split(1, dim=2)], dim=2)
    assert (encoder(picture) - alone).abs().max() < 1e-6


def test_timestep_embedding_widths():
    t = torch.tensor([0, 999])
    assert TimestepEmbedding(32)(t).shape == (2, 32)
    assert TimestepEmbedding(32, out_dim=128)(t).shape == (2, 128)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: ResnetBlock(33), "multiple of 32"),
        (lambda: TemporalTransformer(96), r"multiple of head_dim \(64\)"),
        (lambda: TemporalMamba2(32, head_dim=48), "multiple of head_dim"),
        (lambda: TemporalMamba(32, decay="linear"), "decay must be"),
        (lambda: TemporalMamba(32, share_dynamics=True, bidirectional=False), "bidirectional"),
        (lambda: ResnetBlock(32, emb_dim=8)(clip()), "needs an emb"),
        (lambda: ResnetBlock(32)(clip(), torch.zeros(2, 8)), "without emb_dim"),
        (lambda: SpatialTransformer(32, head_dim=16, context_dim=8)(clip()), "needs a context"),
        (
            lambda: SpatialTransformer(32, head_dim=16, context_dim=8)(clip(), torch.ones(1, 5, 8)),
            "context must have the 2 items of x, got 1",
        ),
        (lambda: TemporalConvBlock(32)(clip()[:, :, 0]), r"\(B, C, F, H, W\)"),
        (lambda: PoseEncoder(8)(torch.rand(1, 3, 2, 12, 16)), "multiples of 8"),
        (lambda: ReferenceEncoder(12)(torch.rand(1, 3, 4, 4)), r"\(B, 4, h, w\)"),
    ],
)  # fmt: skip
def test_errors_say_what_is_wanted(make, text):
    with pytest.raises(ValueError, match=text):
        make()


@pytest.mark.parametrize("name", BLOCKS)
def test_printing_a_block_tells_its_size(name):
    assert str(DIM) in repr(BLOCKS[name]())


def normed(layer):
    """Return a layer beside its normalisation, what calls both, and rows to call them on."""
    parts = nn.ModuleList([layer, nn.LayerNorm(24)])
    nn.init.normal_(parts[1].weight)
    return parts, lambda x: layer.add_to(x, parts[1]), torch.randn(2, 3, 5, 24)


def convolutions():
    block = TemporalConvBlock(DIM)
    nn.init.normal_(block.convs[-1].weight)
    return block, block, torch.randn(2, DIM, 3, 4, 5).contiguous(memory_format=LAST)


def transformer():
    block = TemporalTransformer(DIM, num_heads=3, head_dim=8)
    nn.init.normal_(block.proj_out.weight)
    return block, block, torch.randn(2, DIM, 3, 4, 5).contiguous(memory_format=LAST)


def spatial_transformer():
    block = SpatialTransformer(DIM, num_heads=3, head_dim=8, context_dim=10)
    nn.init.normal_(block.proj_out.weight)
    x, context = torch.randn(2, DIM, 3, 4, 5).contiguous(memory_format=LAST), torch.randn(2, 7, 10)
    return block, lambda x: block(x, context), x


IN_ONE_OP = {
    "feed-forward": lambda: normed(attention.FeedForward(24)),
    "transformer over frames": transformer,
    "transformer over tokens": spatial_transformer,
    "convolutions over frames": convolutions,
}


@pytest.mark.parametrize("name", IN_ONE_OP)
def test_layers_in_one_op_are_what_their_modules_are(name):
    _, call, x = IN_ONE_OP[name]()
    whole = call(x)  # with gradients, so module by module
    with torch.no_grad():
        assert (call(x) - whole).abs().max() < 1e-5 * whole.abs().max()


def test_convolutions_in_one_op_keep_to_the_settings_of_their_norms():
    block, _, x = convolutions()
    for norms in (block.norms, block.norms[1:2]):
        for norm in norms:
            norm.eps *= 1e4
        whole = block(x)
        with torch.no_grad():
            assert (block(x) - whole).abs().max() < 1e-5 * whole.abs().max()


@pytest.mark.parametrize("made", [transformer, spatial_transformer])
def test_a_transformer_in_one_op_keeps_to_the_settings_of_its_norms(made):
    block, call, x = made()
    for norm in (block.norm, block.norm2, block.norm1, block.norm3):
        norm.eps *= 1e4
        whole = call(x)
        with torch.no_grad():
            assert (call(x) - whole).abs().max() < 1e-5 * whole.abs().max()


@pytest.mark.parametrize("name", IN_ONE_OP)
def test_a_hook_or_an_adapter_inside_such_a_layer_is_not_passed_over(name):
    parts, call, x = IN_ONE_OP[name]()
    inside = [m for m in parts.modules() if not list(m.children()) and list(m.parameters())]
    assert len(inside) >= 3
    with torch.no_grad():
        plain, seen = call(x), []
        for module in inside:
            handle = module.register_forward_hook(lambda module, *_: seen.append(module))
            call(x)
            handle.remove()
            original = type(module)
            module.__class__ = type("Adapted", (original,), {"forward": doubled(original)})
            assert not torch.equal(call(x), plain)
            module.__class__ = original
    assert seen == inside


def test_a_hook_on_attention_of_tokens_changes_what_it_reads():
    # as `examples/separate_reference.py` has it
    block, call, x = spatial_transformer()
    block.attn1.register_forward_pre_hook(lambda _, given: (given[0], torch.ones(6, 7, 24)))
    whole = call(x)
    with torch.no_grad():
        assert (call(x) - whole).abs().max() < 1e-5 * whole.abs().max()


def doubled(kind):
    return lambda self, x: 2 * kind.forward(self, x)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 8, 1, 3)])
def test_pixels_are_doubled_by_a_copy_alike(shape):
    x = torch.randn(shape).contiguous(memory_format=torch.channels_last)
    got = _layout.double_by_copy(x)
    assert torch.equal(got, torch.nn.functional.interpolate(x, scale_factor=2.0, mode="nearest"))
    assert got.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("bidirectional", [True, False])
def test_mamba2_normalises_the_sum_in_one_op_where_no_gradient_is_wanted(
    bidirectional, monkeypatch
):
    block = TemporalMamba2(32, bidirectional=bidirectional)
    torch.nn.init.normal_(block.out_proj.weight)
    x = torch.randn(2, 32, 5, 3, 2)
    given = []

    def noted(rows, weight, eps, *, added):
        given.append((weight, eps, added is not None))
        return rms_norm(rows, weight, eps, added=added)

    monkeypatch.setattr(temporal_mamba2, "rms_norm", noted)
    trained = block(x)
    assert not given
    with torch.no_grad():
        torch.testing.assert_close(block(x), trained)
    assert given == [(block.norm_out.weight, block.norm_out.eps, bidirectional)]
