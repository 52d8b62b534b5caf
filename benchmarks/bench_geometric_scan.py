"""Mamba's scan with geometric decays: one exponential a channel and frame instead of 16."""

from functools import partial

from benchmarks.ops import Op, Shape, backend_forms
from benchmarks.scans import scan_inputs, scan_work
from unianimate_kernels import selective_scan

FORMS = backend_forms(selective_scan)

OP = Op(
    "selective_scan with geometric decays",
    partial(scan_inputs, geometric=True),
    {name: form for name, form in FORMS.items() if name != "mamba_ssm"},
    partial(scan_work, geometric=True),
    cpu=(Shape(16, 24, 16, 128),),
    widen=2,
    heavy={"reference": 2**20},
)


def bench_geometric_scan(measure_op, case):
    measure_op(OP, case)
