"""How a tensor (N, C, *) lies in memory, as the kernels see it.

``rows``: channels are dense; a location is a row of C values, and the locations lie on at most
three strided axes, so clips cut in time, crops and slices of a concatenation are read in place.
``planes``: the locations of a channel are dense, as in contiguous (N, C, *) memory.
"""

import torch
from torch import Tensor

_MAX_AXES = 3
_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}

# values of x that share one partial sum: large enough to make the sums cheap, small enough to
# keep every thread busy and the block in the cache; and the most blocks of an item
_BLOCK = 65536
_MAX_BLOCKS = 128

# the same for csrc/group_norm_silu/cuda.cu, whose thread blocks take a tile of channels of such a
# block: thread blocks in all, values of the smallest one, and channels of a tile, as it splits them
_THREAD_BLOCKS = 1536
_THREAD_BLOCK = 16384
_TILE = 640


def is_rows(x: Tensor) -> bool:
    """Say whether the channels are dense; a single channel is a plane."""
    return x.stride(1) == 1 and x.shape[1] > 1


def is_dense_rows(x: Tensor) -> bool:
    """Say whether all of a picture or a video is one run of rows: what is asked for most, soon."""
    form = _CHANNELS_LAST.get(x.dim())
    return form is not None and x.shape[1] > 1 and x.is_contiguous(memory_format=form)


def axes(*tensors: Tensor) -> tuple[list[int], list[list[int]]]:
    """Merge the axes behind (N, C) as far as all tensors, of one shape, allow.

    Returns:
        Sizes of the merged axes, and for each tensor their strides.
    """
    sizes: list[int] = []
    strides: list[list[int]] = [[] for _ in tensors]
    for axis, size in enumerate(tensors[0].shape[2:], start=2):
        if size == 1:
            continue
        own = [tensor.stride(axis) for tensor in tensors]
        if sizes and all(merged[-1] == size * s for merged, s in zip(strides, own)):
            sizes[-1] *= size
            for merged, s in zip(strides, own):
                merged[-1] = s
        else:
            sizes.append(size)
            for merged, s in zip(strides, own):
                merged.append(s)
    return sizes, strides


def refusal(*tensors: Tensor, planes: bool = True) -> str | None:
    """Return why the kernels cannot read these tensors in place, or None.

    The first tensor decides between rows and planes; ``planes=False`` refuses planes.
    """
    if len(tensors) == 1 and is_dense_rows(tensors[0]):
        return None
    sizes, strides = axes(*tensors)
    if is_rows(tensors[0]):
        if all(is_rows(tensor) for tensor in tensors) and len(sizes) <= _MAX_AXES:
            return None
    elif planes and all(own in ([], [1]) for own in strides):
        return None
    return (
        "it takes channels-last memory with at most three strided axes of locations"
        f"{', or contiguous memory' if planes else ''}, got shape {tuple(tensors[0].shape)} "
        f"with strides {tuple(tensors[0].stride())}"
    )


def row_axes(*tensors: Tensor) -> tuple[list[int], list[list[int]]]:
    """Return `axes` brought to exactly three, the last one varying fastest."""
    sizes, strides = axes(*tensors)
    missing = _MAX_AXES - len(sizes)
    return [1] * missing + sizes, [[0] * missing + own for own in strides]


def blocks(x: Tensor) -> tuple[int, int]:
    """Return how many rows of x share a partial sum, and how many such blocks an item has."""
    rows = x.numel() // (x.shape[0] * x.shape[1])
    block = max(-(-rows // _MAX_BLOCKS), _BLOCK // x.shape[1], 4)
    return block, -(-rows // block)


def thread_blocks(x: Tensor) -> tuple[int, int]:
    """Return what `blocks` does for the CUDA code: enough of them, of the same size, for any GPU.

    Larger ones than that only save partial sums, of which there are two or three a channel.
    """
    rows = x.numel() // (x.shape[0] * x.shape[1])
    values = max(x.numel() // _THREAD_BLOCKS, _THREAD_BLOCK)
    count = -(-rows // max(values // min(x.shape[1], _TILE), 4))
    block = -(-rows // count)
    return block, -(-rows // block)


def empty(x: Tensor) -> Tensor:
    """Return a new dense tensor of x's shape, dtype and memory format."""
    if is_dense_rows(x):
        return torch.empty_like(x)
    if is_rows(x):
        return x.new_empty(x.shape[0], *x.shape[2:], x.shape[1]).movedim(-1, 1)
    return x.new_empty(x.shape)
