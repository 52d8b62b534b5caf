"""Products on tensor descriptors compiled without a GPU: copy engine, tensor cores, no spills."""

import pytest

aot = pytest.importorskip("aot", reason="triton is not installed: `pip install triton`")

from unianimate_kernels.feed_forward import gated
from unianimate_kernels.temporal_conv_block import shifted

# what a multiprocessor has, and a program keeps of it for itself
SHARED = 228 * 1024 - 1024


def tiles(activation, *block):
    return f"tensordesc<{activation}[{', '.join(map(str, block))}]>"


def check(kernel, arguments, options, *, registers, programs):
    compiled = aot.compile_kernel(kernel, 90, arguments, **options)
    aot.check(compiled, registers=registers)
    assert compiled.shared <= SHARED // programs - 1024
    opcodes = [opcode for _, opcode, _ in compiled.disassemble()]
    assert any(opcode.startswith("UTMALDG") for opcode in opcodes)
    assert any(opcode.startswith("HGMMA") for opcode in opcodes)


@pytest.mark.parametrize("width", [320, 1280])
@pytest.mark.parametrize("activation", ["bf16", "fp16"])
def test_shifted_product(activation, width):
    tile = shifted.tile_of(width)
    rows, columns, terms = tile.values()
    arguments = {
        "x": tiles(activation, 1, rows, terms),
        "weight": tiles(activation, columns, 1, terms),
        "out": tiles(activation, 1, rows, columns),
        **dict.fromkeys(("COUNT", "LENGTH", "SPACE", "WIDTH", "PARTS"), "i32"),
        **tile,
    }
    check(shifted._shifted_kernel, arguments, shifted._OPTIONS, registers=240, programs=1)


@pytest.mark.parametrize("activation", ["bf16", "fp16"])
def test_gated_product(activation):
    rows, columns, terms = gated._TILE.values()
    arguments = {
        "x": tiles(activation, rows, terms),
        "weight": tiles(activation, columns, terms),
        "bias_ptr": f"*{activation}",
        "out": tiles(activation, rows, columns),
        "WIDTH": "i32",
        "PARTS": "i32",
        **gated._TILE,
    }
    check(gated._gated_kernel, arguments, gated._OPTIONS, registers=240, programs=2)
