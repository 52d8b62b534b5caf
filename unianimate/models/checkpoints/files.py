"""Weight files: safe reading of PyTorch and safetensors files, streamed writing of safetensors."""

import json
import pickle
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from unianimate.models.checkpoints._rename import listed

_CHUNK = 1 << 24

_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


class CheckpointError(ValueError):
    """A weight file that cannot be used; the message is one line for the user."""


class _LightningCallback:
    """Stands for the class that Lightning checkpoints name as a dictionary key; does nothing."""


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a PyTorch checkpoint or a safetensors file; tensors stay on disk until they are used.

    Pickles are read with ``weights_only=True``: code in a file is refused, never run.

    Raises:
        CheckpointError: If the file is missing, truncated, holds code, or is something else.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        lightning = "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint"
        with (
            torch.serialization.safe_globals([(_LightningCallback, lightning)]),
            warnings.catch_warnings(),
        ):
            # torch announces here what it refuses below
            warnings.filterwarnings("ignore", "Detected pickle protocol")
            # only files of the old format, before 2020, are no zip archives and cannot be mapped
            content = torch.load(
                path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
            )
    except pickle.UnpicklingError as error:
        code = re.search(r"GLOBAL (\S+)|class (\S+)", str(error))
        if code is None:
            raise _unreadable(path) from error
        name = code.group(1) or code.group(2)
        raise CheckpointError(
            f"{path}: refused, it holds code ({name}) and not only tensors; "
            "fetch it again from its publisher"
        ) from error
    except PermissionError as error:
        raise CheckpointError(f"{path}: it may not be read: {error.strerror}") from error
    except (RuntimeError, EOFError, OSError, SafetensorError, ValueError, KeyError) as error:
        raise _unreadable(path) from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path}: holds a {type(content).__name__}, wanted a dictionary of tensors"
        )
    return content


def read_config(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds the configuration of a model or a part of it.

    Raises:
        CheckpointError: If it is no JSON object.
        OSError: If the file cannot be read.
    """
    try:
        config = json.loads(path.read_bytes())
    except ValueError as error:
        raise CheckpointError(f"{path}: not a JSON file ({error}); fetch it again") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{path}: holds a {type(config).__name__}, wanted a JSON object")
    return config


def _unreadable(path: Path) -> CheckpointError:
    return CheckpointError(
        f"{path}: truncated, or not a file of weights ({path.stat().st_size:,} bytes); "
        "fetch it again"
    )


def only_tensors(path: Path, content: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return `content` as a state dict.

    Raises:
        CheckpointError: If a value is no tensor.
    """
    for key, value in content.items():
        if not isinstance(value, Tensor):
            raise CheckpointError(
                f"{path}: entry {key!r} is a {type(value).__name__}, wanted only tensors"
            )
    return dict(content)


def write_safetensors(
    path: Path, state: Mapping[str, Tensor], on_bytes: Callable[[int], None] | None = None
) -> int:
    """Write a safetensors file one tensor at a time and return the CRC-32 of its bytes.

    The file appears when it is whole; one that was there is kept if this fails.

    The library's own writer copies the whole state first; this one needs room for one tensor.

    Args:
        path: The file to write.
        state: Its tensors, on any device and in any layout.
        on_bytes: Called with the number of bytes of each tensor written.

    Raises:
        CheckpointError: If a tensor has a value that is not finite.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in state.items():
        begin, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": _DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    # beside it: the tensors may be mapped from the very file they are to replace
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            head = struct.pack("<Q", len(text)) + text
            file.write(head)
            checksum = zlib.crc32(head)
            for name, tensor in state.items():
                if not bool(tensor.isfinite().all()):
                    raise CheckpointError(f"tensor {name!r} holds values that are not finite")
                flat = tensor.detach().cpu().contiguous().reshape(-1)
                data = flat.view(torch.uint8).numpy().data
                file.write(data)
                checksum = zlib.crc32(data, checksum)
                if on_bytes is not None:
                    on_bytes(len(data))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return checksum


def file_checksum(path: Path) -> int:
    """Return the CRC-32 of a file, reading it in pieces."""
    checksum = 0
    with path.open("rb") as file:
        while data := file.read(_CHUNK):
            checksum = zlib.crc32(data, checksum)
    return checksum


def load_weights(module: nn.Module, path: Path, dtype: torch.dtype | None = None) -> None:
    """Give a module, best built on the meta device, the weights of a safetensors file.

    The file is mapped into memory, so weights are read when they are first used. The module ends in
    evaluation mode.

    Args:
        module: Takes the weights; its own are dropped unread.
        path: The safetensors file; its keys must be exactly the module's.
        dtype: Casts floating point weights; None keeps those of the file.

    Raises:
        CheckpointError: If the file is missing or unreadable, or does not fit the module.
    """
    state = only_tensors(path, read_checkpoint(path))
    check_fits(str(path), state, module)
    if dtype is not None:
        state = {k: x.to(dtype) if x.is_floating_point() else x for k, x in state.items()}
    module.load_state_dict(state, strict=True, assign=True)
    module.eval()


def check_fits(what: str, state: Mapping[str, Tensor], module: nn.Module) -> None:
    """Check that a state dict has exactly the names and shapes of a module.

    Raises:
        CheckpointError: If not; the message names the tensors.
    """
    wanted = {name: tuple(x.shape) for name, x in module.state_dict().items()}
    given = {name: tuple(x.shape) for name, x in state.items()}
    problems = [f"{name} missing" for name in wanted if name not in given]
    problems += [f"{name} left over" for name in given if name not in wanted]
    problems += [
        f"{name} is {given[name]}, wanted {shape}"
        for name, shape in wanted.items()
        if name in given and given[name] != shape
    ]
    if problems:
        raise CheckpointError(f"{what}: does not fit the model: {listed(problems)}")
