"""What every op asks of its arguments, said in one sentence each."""

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor

FLOATING = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def expect_activations(
    op: str, tensors: Mapping[str, Tensor | None], *, optional: Collection[str] = ()
) -> None:
    """Check that the activations are floating, share dtype and device and have unit last stride.

    The first entry sets the dtype and device the others must have; the optional may be None.

    Raises:
        TypeError: not a tensor, not floating point, or mixed dtypes.
        ValueError: mixed devices, or a last axis whose stride is not 1.
    """
    first_name, first = next(iter(tensors.items()))
    for name, tensor in tensors.items():
        if tensor is None and name in optional:
            continue
        tensor = expect_tensor(op, name, tensor)
        assert first is not None
        if tensor.dtype not in FLOATING:
            raise TypeError(
                f"{op}: {name} must be float32, bfloat16, float16 or float64, got {tensor.dtype}"
            )
        if tensor.dtype != first.dtype:
            raise TypeError(
                f"{op}: {name} is {tensor.dtype} and {first_name} is {first.dtype}; "
                f"give both the same dtype"
            )
        expect_device(op, name, tensor, first_name, first)
        expect_unit_stride(op, name, tensor)


def expect_parameters(
    op: str, x: Tensor, tensors: Mapping[str, Tensor | None], *, optional: Collection[str] = ()
) -> None:
    """Check that decays, their biases and states are float32 (float64 beside a float64 ``x``).

    Raises:
        TypeError: another dtype.
        ValueError: on another device than ``x``.
    """
    wanted = torch.float64 if x.dtype == torch.float64 else torch.float32
    for name, tensor in tensors.items():
        if tensor is None and name in optional:
            continue
        tensor = expect_tensor(op, name, tensor)
        if tensor.dtype != wanted:
            raise TypeError(
                f"{op}: {name} must be {wanted} beside x of {x.dtype}, got {tensor.dtype}"
            )
        expect_device(op, name, tensor, "x", x)


def expect_alike(
    op: str, x: Tensor, tensors: Mapping[str, Tensor | None], *, optional: Collection[str] = ()
) -> None:
    """Check that ``x`` is floating and the others have its dtype and device, with any strides.

    Raises:
        TypeError: not a tensor, not floating point, or mixed dtypes.
        ValueError: mixed devices.
    """
    for name, tensor in {"x": x, **tensors}.items():
        if tensor is None and name in optional:
            continue
        tensor = expect_tensor(op, name, tensor)
        if tensor.dtype not in FLOATING or tensor.dtype != x.dtype:
            raise TypeError(
                f"{op}: {name} is {tensor.dtype} and x is {x.dtype}; give both the same of "
                f"float32, bfloat16, float16 and float64"
            )
        expect_device(op, name, tensor, "x", x)


def expect_list(
    op: str, x: Tensor, name: str, tensors: Sequence[Tensor], shapes: Sequence[tuple[int, ...]]
) -> None:
    """Check a list of weights beside a floating ``x``: how many, of which shapes, like ``x``.

    Raises:
        TypeError: not a tensor, or mixed dtypes.
        ValueError: more or fewer tensors, other shapes, mixed devices.
    """
    if len(tensors) != len(shapes):
        raise ValueError(f"{op}: {name} must be {len(shapes)} tensors, got {len(tensors)}")
    dtype, device = x.dtype, x.device
    for i, (tensor, shape) in enumerate(zip(tensors, shapes), 1):
        alike = isinstance(tensor, Tensor) and tensor.dtype == dtype and tensor.device == device
        if not alike or tensor.shape != shape:
            which = f"{name}, tensor {i}"
            expect_alike(op, x, {which: tensor})
            expect_shape(op, which, tensor, shape)


def expect_tensor(op: str, name: str, value: object) -> Tensor:
    """Return ``value``, which must be a tensor."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{op}: {name} must be a tensor, got {type(value).__name__}")
    return value


def expect_device(op: str, name: str, tensor: Tensor, first_name: str, first: Tensor) -> None:
    """Check that ``tensor`` is where ``first`` is."""
    if tensor.device != first.device:
        raise ValueError(
            f"{op}: {name} is on {tensor.device} and {first_name} on {first.device}; "
            f"move one of them"
        )


def expect_unit_stride(op: str, name: str, tensor: Tensor) -> None:
    """Check that the last axis is dense; every other stride is free."""
    if tensor.dim() and tensor.shape[-1] > 1 and tensor.stride(-1) != 1:
        raise ValueError(
            f"{op}: the last axis of {name} must have stride 1, got strides "
            f"{tuple(tensor.stride())}; keep channels last in memory or call .contiguous()"
        )


def expect_rank(op: str, name: str, tensor: Tensor, axes: str) -> None:
    """Check the number of axes; ``axes`` names them for the message, as in "(B, F, S, D)"."""
    tensor = expect_tensor(op, name, tensor)
    if tensor.dim() != axes.count(",") + 1:
        raise ValueError(f"{op}: {name} must be {axes}, got shape {tuple(tensor.shape)}")


def expect_shape(op: str, name: str, tensor: Tensor | None, shape: tuple[int, ...]) -> None:
    """Check the shape of an argument that may be None."""
    if tensor is not None and tuple(tensor.shape) != shape:
        raise ValueError(f"{op}: {name} must have shape {shape}, got {tuple(tensor.shape)}")


def expect_not_empty(op: str, name: str, tensor: Tensor) -> None:
    """Check that no axis is empty: an op over no frames has no meaning."""
    if 0 in tensor.shape:
        raise ValueError(f"{op}: {name} has an empty axis, its shape is {tuple(tensor.shape)}")
