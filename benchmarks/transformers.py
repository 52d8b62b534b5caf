"""What the benchmarks of both transformers share: a block's weights in the order of its op."""

import torch


def head_dim(channels):
    return 64 if channels % 64 == 0 else 32


def made(kind, dim, **options):
    """Return a block without memory."""
    with torch.device("meta"):
        return kind(dim, head_dim=head_dim(dim), **options)


def names(transformer):
    """Return the names of a block's parameters in the order of its op."""
    found = ["norm.weight", "norm.bias", "proj_in.weight", "proj_in.bias"]
    for i in (1, 2):
        found += [f"norm{i}.weight", f"norm{i}.bias"]
        found += [f"attn{i}.{name}.weight" for name in ("to_q", "to_k", "to_v", "to_out")]
        found += [f"attn{i}.to_out.bias"]
    for layer in ("norm3", "ff.proj", "ff.out", "proj_out"):
        found += [f"{layer}.weight", f"{layer}.bias"]
    assert sorted(found) == sorted(transformer.state_dict())
    return found


def random_weights(transformer, dtype, device):
    """Return random weights of a block, in the order of its op."""
    state = transformer.state_dict()
    return [
        torch.randn(state[name].shape, device=device, dtype=dtype) * state[name].shape[-1] ** -0.5
        for name in names(transformer)
    ]


def with_weights(transformer, weights):
    """Return the block with these weights."""
    transformer.load_state_dict(dict(zip(names(transformer), weights, strict=True)), assign=True)
    return transformer.eval()


def arguments(weights, channels):
    """Return the weights as the arguments of an op, and its keywords."""
    layers = (weights[:2], weights[2:4], [weights[4:11], weights[11:18]], weights[18:24])
    return (32, *layers, weights[24:]), {"num_heads": channels // head_dim(channels)}
