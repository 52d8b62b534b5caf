"""Mamba's scan with geometric decays: one exponential a channel and frame instead of 16."""

from functools import partial

import torch

from benchmarks.ops import Op, Shape, backend_forms
from benchmarks.scans import D_STATE, scan_inputs, scan_work
from unianimate_kernels import selective_scan

FORMS = {name: form for name, form in backend_forms(selective_scan).items() if name != "mamba_ssm"}


def free(x, dt, A, *others):
    """Scan with the same decays, written out for every state."""
    states = torch.arange(1.0, D_STATE + 1, device=A.device)
    return FORMS["native"](x, dt, A[:, None] * states, *others)


OP = Op(
    "selective_scan with geometric decays",
    partial(scan_inputs, geometric=True),
    FORMS | ({"native, free decays": free} if "native" in FORMS else {}),
    partial(scan_work, geometric=True),
    cpu=(Shape(16, 24, 16, 128),),
    widen=2,
    heavy={"reference": 2**20},
)


def bench_geometric_scan(measure_op, case):
    measure_op(OP, case)
