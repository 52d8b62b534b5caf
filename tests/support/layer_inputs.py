"""Random float64 inputs of the ops of whole layers."""

from functools import partial

import torch


def random(seed: int):
    """Return a function that draws float64 numbers of a shape."""
    return partial(torch.randn, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def feed_forward_inputs(shape, dim, hidden):
    draw = random(dim)
    return {
        "x": draw(*shape, dim),
        "norm_weight": draw(dim),
        "norm_bias": draw(dim),
        "weight_in": draw(2 * hidden, dim) * dim**-0.5,
        "bias_in": draw(2 * hidden),
        "weight_out": draw(dim, hidden) * hidden**-0.5,
        "bias_out": draw(dim),
    }


def transformer_inputs(batch, frames, height, width, dim, groups, heads, head_dim, hidden):
    draw, inner = random(frames), heads * head_dim

    def linear(out, into):
        return [draw(out, into) * into**-0.5, draw(out)]

    def attention():
        projections = [linear(inner, inner)[0] for _ in range(3)]
        return [draw(inner), draw(inner), *projections, *linear(inner, inner)]

    return {
        "x": draw(batch, frames, height, width, dim).permute(0, 4, 1, 2, 3),
        "num_groups": groups,
        "norm": [draw(dim), draw(dim)],
        "proj_in": linear(inner, dim),
        "attentions": [attention(), attention()],
        "feed_forward": [
            *(draw(inner) for _ in range(2)),
            *linear(2 * hidden, inner),
            *linear(inner, hidden),
        ],
        "proj_out": linear(dim, inner),
        "num_heads": heads,
    }


def spatial_inputs(
    batch, frames, height, width, dim, groups, heads, head_dim, hidden, keys, source
):
    sizes = (batch, frames, height, width, dim, groups, heads, head_dim, hidden)
    inputs, draw = transformer_inputs(*sizes), random(keys)
    inner = heads * head_dim
    to_k, to_v = (draw(inner, source) * source**-0.5 for _ in range(2))
    inputs["attentions"][1][3:5] = [to_k, to_v]
    return {"x": inputs.pop("x"), "context": draw(batch, keys, source), **inputs}


def resnet_inputs(batch, height, width, channels, out_channels, groups, embedding=18):
    """Frames of one item if their number is odd, else of two."""
    draw = random(channels)

    def conv(out, into, size):
        return [draw(out, into, size, size) / (size * into**0.5), draw(out)]

    return {
        "x": draw(batch, height, width, channels).permute(0, 3, 1, 2),
        "embedding": draw(2 - batch % 2, embedding) if embedding else None,
        "num_groups": groups,
        "norm1": [draw(channels), draw(channels)],
        "conv1": conv(out_channels, channels, 3),
        "emb_proj": [draw(out_channels, embedding) / embedding**0.5, draw(out_channels)]
        if embedding
        else [],
        "norm2": [draw(out_channels), draw(out_channels)],
        "conv2": conv(out_channels, out_channels, 3),
        "skip": conv(out_channels, channels, 1) if out_channels != channels else [],
    }


def conv_inputs(batch, frames, height, width, channels, groups):
    draw = random(channels)
    return {
        "x": draw(batch, frames, height, width, channels).permute(0, 4, 1, 2, 3),
        "num_groups": groups,
        **{
            name: [draw(channels) for _ in range(4)]
            for name in ("norm_weights", "norm_biases", "biases")
        },
        "weights": [draw(channels, channels, 3, 1, 1) * (3 * channels) ** -0.5 for _ in range(4)],
    }
