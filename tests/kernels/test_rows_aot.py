"""The kernel for rows compiled without a GPU: no spills, no local memory, bounded registers."""

import pytest
import torch

aot = pytest.importorskip("aot", reason="triton is not installed: `pip install triton`")

from unianimate_kernels import _rows

DTYPES = {"*bf16": torch.bfloat16, "*fp16": torch.float16, "*fp32": torch.float32}
ABSENT = {
    "layer_norm": ("added_ptr", "extra_ptr", "sum_ptr"),
    "add_layer_norm": (),
    "add_rms_norm": ("before_ptr", "shift_ptr", "extra_ptr", "sum_ptr"),
    "add_rows": ("before_ptr", "weight_ptr", "shift_ptr", "out_ptr"),
}


@pytest.mark.parametrize("width", [16, 320, 640, 1280])
@pytest.mark.parametrize("name", ABSENT)
@pytest.mark.parametrize("activation", DTYPES)
@pytest.mark.parametrize("arch", [80, 90, pytest.param(100, marks=pytest.mark.slow)])
def test_stays_in_registers(arch, activation, name, width):
    x = torch.empty(1, width, dtype=DTYPES[activation], device="meta")
    tile = _rows.tile_of(x, **(_rows._SUM if name == "add_rows" else _rows._NORM))
    warps = tile.pop("num_warps")
    given = {"ROWS": "i32", "WIDTH": "i32:16", "eps": "fp32", **tile}
    given |= dict.fromkeys(ABSENT[name])
    names = [parameter.name for parameter in _rows._rows_kernel.params]
    arguments = {name: given.get(name, activation) for name in names}
    compiled = aot.compile_kernel(_rows._rows_kernel, arch, arguments, num_warps=warps)
    aot.check(compiled, registers=168)
