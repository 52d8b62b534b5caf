import gates
import pytest
import torch

from unianimate_kernels import BackendError, temporal_attention
from unianimate_kernels.temporal_attention import triton as op


def make_inputs(*shape: int) -> dict[str, torch.Tensor]:
    drawn = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return dict(zip("qkv", drawn, strict=True))


@pytest.mark.parametrize(
    ("frames", "dtype"),
    [
        *((frames, torch.float32) for frames in (1, 3, 5, 16, 17, 33)),
        *((frames, torch.float16) for frames in (2, 15, 16, 17, 33, 65)),
    ],
)
def test_triton_meets_the_gate(frames, dtype):
    inputs = make_inputs(1, frames, 2, 1, 20)
    gates.check(temporal_attention, inputs, backend="triton", dtype=dtype)


def test_triton_goes_over_several_tiles():
    inputs = make_inputs(2, 65, 1, 1, 8)
    gates.check(temporal_attention, inputs, backend="triton", dtype=torch.float16, scale=0.5)


def test_triton_reads_packed_and_permuted_views():
    wide = make_inputs(2, 9, 2, 3, 2, 11)["q"].float().transpose(0, 1)
    inputs = dict(zip("qkv", wide[..., 1:9].unbind(3), strict=True))
    gates.check(temporal_attention, inputs, backend="triton", dtype=torch.float32)


@pytest.mark.parametrize("frames", [5, 17, 40, 70])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_without_gradients_the_result_is_the_same(frames, dtype):
    inputs = {name: t.to(dtype) for name, t in make_inputs(2, frames, 2, 3, 8).items()}
    leaves = {name: t.clone().requires_grad_() for name, t in inputs.items()}
    with_lse = temporal_attention(**leaves, backend="triton")
    torch.testing.assert_close(
        temporal_attention(**inputs, backend="triton"), with_lse.detach(), rtol=0, atol=0
    )


@pytest.mark.parametrize("frames", [5, 70])
def test_frames_may_lie_far_apart(frames, monkeypatch):
    inputs = {name: t.half() for name, t in make_inputs(1, frames, 2, 1, 8).items()}
    expected = temporal_attention(**inputs, backend="triton")
    monkeypatch.setattr(op, "_far", lambda strided, frames: True)
    got = temporal_attention(**inputs, backend="triton")
    torch.testing.assert_close(got, expected, rtol=0, atol=0)


def test_how_far_frames_may_lie_apart():
    memory = torch.empty(8, dtype=torch.float16, device="meta")
    near = memory.as_strided((1, 2, 1, 1, 8), (8, 2**26 - 8, 8, 8, 1))
    far = memory.as_strided((1, 2, 1, 1, 8), (8, 2**26, 8, 8, 1))
    assert not op._far((near, near), 32)
    assert op._far((near, far), 32)


def test_a_call_made_without_lse_has_its_gradients():
    q, k, v = (t.float() for t in make_inputs(1, 5, 2, 1, 4).values())
    leaves = [t.clone().requires_grad_() for t in (q, k, v)]
    out, lse = torch.ops.unianimate.temporal_attention_triton(*leaves, 0.5, False)
    assert lse.numel() == 0
    found = torch.autograd.grad(out.square().sum(), leaves)
    expected = torch.autograd.grad(
        temporal_attention(*leaves, scale=0.5, backend="reference").square().sum(), leaves
    )
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("with_lse", [True, False])
def test_opcheck(with_lse):
    inputs = [t.float().requires_grad_() for t in make_inputs(1, 5, 2, 1, 4).values()]
    temporal_attention(*inputs, backend="triton")
    torch.library.opcheck(torch.ops.unianimate.temporal_attention_triton, (*inputs, 0.5, with_lse))


def test_wide_heads_are_refused():
    inputs = {name: t.float() for name, t in make_inputs(1, 2, 1, 1, 65).items()}
    with pytest.raises(BackendError, match="head_dim up to 64, got 65"):
        temporal_attention(**inputs, backend="triton")
