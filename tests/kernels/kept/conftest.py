"""Every op that packs weights, with weights that are kept."""

import pytest
import torch
from kept_ops import OPS, given_parameters


@pytest.fixture(params=OPS, ids=lambda op: op.__name__)
def op(request):
    return request.param


@pytest.fixture(params=(torch.float32, torch.bfloat16), ids=str)
def given(request, op):
    """Inputs whose weights are parameters."""
    return given_parameters(op, request.param)


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield
