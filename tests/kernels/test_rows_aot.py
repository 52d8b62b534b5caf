"""The kernel for rows compiled without a GPU: no spills, no local memory, bounded registers."""

import pytest

aot = pytest.importorskip("aot", reason="triton is not installed: `pip install triton`")

from unianimate_kernels import _rows  # noqa: E402


def describe(activation, columns, absent):
    given = {"ROWS": "i32", "WIDTH": "i32:16", "eps": "fp32", "COLUMNS": columns}
    given["TILE"] = max(1, _rows._TILE // columns)
    names = [parameter.name for parameter in _rows._rows_kernel.params]
    return {name: given.get(name, None if name in absent else activation) for name in names}


ABSENT = {
    "layer_norm": ("added_ptr", "extra_ptr", "sum_ptr"),
    "add_layer_norm": (),
    "add_rows": ("weight_ptr", "shift_ptr", "out_ptr"),
}


@pytest.mark.parametrize("columns", [16, 512, 2048])
@pytest.mark.parametrize("absent", ABSENT.values(), ids=ABSENT)
@pytest.mark.parametrize("activation", ["*bf16", "*fp32"])
@pytest.mark.parametrize("arch", [80, 90, pytest.param(100, marks=pytest.mark.slow)])
def test_stays_in_registers(arch, activation, absent, columns):
    arguments = describe(activation, columns, absent)
    compiled = aot.compile_kernel(_rows._rows_kernel, arch, arguments, num_warps=_rows._WARPS)
    aot.check(compiled, registers=168)
