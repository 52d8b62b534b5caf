"""Mamba's scan: every backend, and the formulation that holds all states in memory."""

from functools import partial

from benchmarks.ops import Op, Shape, backend_forms, compiled
from benchmarks.scans import materialising, scan_inputs, scan_work
from unianimate_kernels import selective_scan

OP = Op(
    "selective_scan",
    scan_inputs,
    {
        **backend_forms(selective_scan),
        "materialising": materialising,
        **compiled(partial(selective_scan, backend="reference")),
    },
    scan_work,
    cpu=(Shape(16, 24, 16, 128),),
    widen=2,
    # a tensor of all states is 16 times as large as its input
    heavy={"materialising": 2**20, "reference": 2**20},
)


def bench_selective_scan(measure_op, case):
    measure_op(OP, case)
