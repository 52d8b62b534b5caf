"""The Triton form takes half precision: float16 here, of which the interpreter rounds as a GPU."""

import gates
import pytest
import torch

from unianimate_kernels import BackendError, temporal_conv
from unianimate_kernels.info import try_out
from unianimate_kernels.temporal_conv import triton

SIZES = [  # batch, channels, frames, height, width, outputs
    (2, 16, 5, 3, 4, 24),
    (1, 8, 1, 2, 2, 8),
    (1, 16, 2, 1, 1, 8),
    (1, 72, 3, 9, 11, 264),  # rows, terms and columns end inside a tile
    (1, 64, 17, 3, 5, 512),  # a program takes several tiles
]


def make_inputs(batch, channels, frames, height, width, out):
    generator = torch.Generator().manual_seed(frames)

    def random(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    x = random(batch, frames, height, width, channels).permute(0, 4, 1, 2, 3)
    weight = random(out, channels, 3, 1, 1) / (3 * channels) ** 0.5
    return {"x": x, "weight": weight, "bias": random(out)}


def check(inputs):
    options = {"backend": "triton", "dtype": torch.float16, "gradients": False}
    gates.check(temporal_conv, inputs, **options)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_meets_the_gate(size):
    check(make_inputs(*size))


def test_without_a_bias():
    inputs = make_inputs(*SIZES[0])
    del inputs["bias"]
    check(inputs)


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.contiguous(),
        lambda x: x[:, :, 1:4],
        lambda x: x[:, :, ::2],
        lambda x: torch.cat([x, x], dim=1)[:, 16:],
        lambda x: x[1:],
    ],
    ids=["channels first", "some frames", "every second", "some channels", "one clip"],
)
def test_reads_any_strides(view):
    inputs = make_inputs(*SIZES[0])
    check({**inputs, "x": view(inputs["x"])})


def test_reads_memory_that_is_not_aligned():
    inputs = make_inputs(*SIZES[0])
    x = inputs["x"].permute(0, 2, 3, 4, 1).contiguous()
    moved = torch.empty(x.numel() + 1, dtype=x.dtype)[1:].view(x.shape).copy_(x)
    check({**inputs, "x": moved.permute(0, 4, 1, 2, 3)})


@pytest.mark.parametrize(
    ("channels", "dtype", "message"),
    [(12, torch.float16, "multiples of 8 channels, got 12"), (16, torch.float32, "got float32")],
)
def test_refuses_what_it_cannot_take(channels, dtype, message):
    inputs = gates.cast(make_inputs(1, channels, 2, 2, 2, 8), dtype, frozenset())
    with torch.no_grad(), pytest.raises(BackendError, match=message):
        temporal_conv(**inputs, backend="triton")


def test_has_no_gradient():
    inputs = gates.cast(make_inputs(*SIZES[1]), torch.float16, frozenset())
    inputs["weight"].requires_grad_()
    with pytest.raises(BackendError, match="no gradient"):
        temporal_conv(**inputs, backend="triton")
    assert temporal_conv(**inputs).requires_grad


def test_a_tile_for_every_width():
    assert triton.tile_of(320)["COLUMNS"] == 128
    assert triton.tile_of(1280)["COLUMNS"] == 256


def test_what_tries_backends_out_gives_it_half_precision():
    assert try_out("temporal_conv", "triton", "cpu") is None


def test_opcheck():
    inputs = gates.cast(make_inputs(*SIZES[1]), torch.float16, frozenset())
    torch.library.opcheck(torch.ops.unianimate.temporal_conv_triton, tuple(inputs.values()))
