"""The ops whose packed weights and calls are kept, and examples for them."""

import gates
import torch
from layer_inputs import conv_inputs, resnet_inputs, spatial_inputs, transformer_inputs

from unianimate_kernels import (
    resnet_block,
    spatial_conv,
    spatial_transformer,
    temporal_conv_block,
    temporal_transformer,
)

# not weights
INPUTS = ("x", "context", "embedding")


def spatial_conv_inputs():
    frames = conv_inputs(1, 5, 3, 4, 32, 4)
    weight = frames["weights"][0].repeat(1, 1, 1, 3, 1).flatten(3)
    return {"x": frames["x"][0].transpose(0, 1), "weight": weight, "bias": frames["biases"][0]}


OPS = {
    resnet_block: lambda: resnet_inputs(4, 5, 3, 32, 48, 4),
    spatial_conv: spatial_conv_inputs,
    temporal_conv_block: lambda: conv_inputs(2, 5, 3, 4, 32, 4),
    temporal_transformer: lambda: transformer_inputs(2, 5, 3, 4, 32, 4, 2, 16, 40),
    spatial_transformer: lambda: spatial_inputs(2, 5, 3, 4, 32, 4, 2, 16, 40, 7, 18),
}


def parameters(value):
    if isinstance(value, list):
        return [parameters(item) for item in value]
    return torch.nn.Parameter(value, requires_grad=False)


def given_parameters(op, dtype):
    """Return inputs whose weights are parameters."""
    inputs = gates.cast(OPS[op](), dtype, frozenset())
    kept = {*INPUTS, "num_groups", "num_heads"}
    return {k: value if k in kept else parameters(value) for k, value in inputs.items()}
