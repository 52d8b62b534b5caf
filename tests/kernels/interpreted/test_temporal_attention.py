import gates
import pytest
import torch

from unianimate_kernels import BackendError, temporal_attention


def make_inputs(*shape: int) -> dict[str, torch.Tensor]:
    drawn = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return dict(zip("qkv", drawn, strict=True))


@pytest.mark.parametrize(
    ("frames", "dtype"),
    [
        *((frames, torch.float32) for frames in (1, 5, 16, 17, 33)),
        *((frames, torch.float16) for frames in (2, 15, 33)),
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


def test_opcheck():
    inputs = [t.float().requires_grad_() for t in make_inputs(1, 5, 2, 1, 4).values()]
    temporal_attention(*inputs, backend="triton")
    torch.library.opcheck(torch.ops.unianimate.temporal_attention_triton, (*inputs, 0.5))


def test_wide_heads_are_refused():
    inputs = {name: t.float() for name, t in make_inputs(1, 2, 1, 1, 65).items()}
    with pytest.raises(BackendError, match="head_dim up to 64, got 65"):
        temporal_attention(**inputs, backend="triton")
