"""In float16, which the interpreter rounds as a GPU does."""

import pytest
import torch
from torch.nn.functional import conv3d

from unianimate_kernels._descriptors import takes_tiles
from unianimate_kernels.temporal_conv_block import shifted
from unianimate_kernels.temporal_conv_block.shifted import shifted_product

SIZES = [  # batch, channels, frames, height, width, outputs
    (2, 16, 5, 3, 4, 24),
    (1, 8, 1, 2, 2, 8),
    (1, 16, 2, 1, 1, 8),
    (1, 72, 3, 9, 11, 264),  # rows, terms and columns end inside a tile
    (1, 64, 17, 3, 5, 512),  # a program takes several tiles
]


def make_inputs(batch, channels, frames, height, width, out):
    generator = torch.Generator().manual_seed(frames)
    x = torch.randn(batch, frames, height, width, channels, generator=generator)
    weight = torch.randn(out, channels, 3, 1, 1, generator=generator) / (3 * channels) ** 0.5
    return x.half().permute(0, 4, 1, 2, 3), weight.half()


def check(x, weight):
    want = conv3d(x.double(), weight.double(), padding=(1, 0, 0))
    got = shifted_product(x, weight)
    assert got.is_contiguous(memory_format=torch.channels_last_3d)
    error = (got - want).abs().max()
    assert error <= torch.finfo(torch.float16).eps * want.abs().max()


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_is_the_convolution(size):
    check(*make_inputs(*size))


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
    x, weight = make_inputs(*SIZES[0])
    check(view(x), weight)


def test_reads_memory_that_is_not_aligned():
    x, weight = make_inputs(*SIZES[0])
    x = x.permute(0, 2, 3, 4, 1).contiguous()
    moved = torch.empty(x.numel() + 1, dtype=x.dtype)[1:].view(x.shape).copy_(x)
    check(moved.permute(0, 4, 1, 2, 3), weight)


@pytest.mark.parametrize(
    ("dtype", "widths", "taken"),
    [
        (torch.bfloat16, (320, 8), True),
        (torch.float16, (8,), True),
        (torch.bfloat16, (320, 12), False),
        (torch.float32, (320, 8), False),
    ],
)
def test_tiles_are_taken_where_they_fit(dtype, widths, taken):
    assert takes_tiles(torch.ones(1, dtype=dtype), *widths) is taken


def test_a_tile_for_every_width():
    assert shifted.tile_of(320)["COLUMNS"] == 128
    assert shifted.tile_of(1280)["COLUMNS"] == 256


def test_opcheck():
    torch.library.opcheck(torch.ops.unianimate.shifted_product_triton, make_inputs(*SIZES[1]))
