"""Both directions of Mamba's scan in one op, against two scans of the peer, which must flip."""

from functools import partial

from benchmarks.ops import Op, Shape, backend_forms
from benchmarks.scans import scan_inputs, scan_work
from unianimate_kernels import available_backends, bidirectional_selective_scan, selective_scan


def twice(x, dt, A, B, C, D, z, dt_bias, *, backend):
    """Scan onwards and backwards; the gate distributes over the sum."""
    tensors = (x, dt, A, B, C, D, z, dt_bias)
    return selective_scan(*tensors, backend=backend) + selective_scan(
        *tensors, reverse=True, backend=backend
    )


forms = backend_forms(bidirectional_selective_scan)
if available_backends("selective_scan")["mamba_ssm"] is None:
    forms["mamba_ssm, twice"] = partial(twice, backend="mamba_ssm")

OP = Op(
    "bidirectional_selective_scan",
    scan_inputs,
    forms,
    partial(scan_work, directions=2),
    cpu=(Shape(16, 24, 16, 128),),
    widen=2,
    heavy={"reference": 2**20},
)


def bench_bidirectional_scan(measure_op, case):
    measure_op(OP, case)
