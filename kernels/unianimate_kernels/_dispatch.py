"""The one rule that picks the backend of a call.

Everything here is plain Python over module globals that are computed at import, because that is
what ``torch.compile(fullgraph=True)`` can trace.
"""

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor


class BackendError(RuntimeError):
    """A backend asked for by name cannot serve the call; the message says why."""


@dataclass(frozen=True)
class Backend:
    """What one backend of one op can serve, decided at import.

    Attributes:
        dtypes: device type -> the dtypes of the activations it takes there.
        off: device type -> why the backend does not serve it here, for those it does not.
        automatic: False for peers, which are used only when named.
    """

    dtypes: Mapping[str, frozenset[torch.dtype]]
    off: Mapping[str, str]
    automatic: bool = True

    def refuses(self, x: Tensor) -> str | None:
        """Return why a call on ``x`` cannot be served, or None."""
        device = x.device.type
        if device not in self.dtypes:
            return f"it takes {' and '.join(sorted(self.dtypes))} tensors, got {device}"
        if device in self.off:
            return self.off[device]
        if x.dtype not in self.dtypes[device]:
            names = ", ".join(sorted(str(d).removeprefix("torch.") for d in self.dtypes[device]))
            return f"on {device} it takes {names}, got {str(x.dtype).removeprefix('torch.')}"
        return None

    def reason_off(self) -> str | None:
        """Return why the backend serves no device here, or None if it serves one."""
        if any(device not in self.off for device in self.dtypes):
            return None
        return "; ".join(dict.fromkeys(self.off.values()))


# op -> backends in order of preference
_BACKENDS: dict[str, dict[str, Backend]] = {}
# op -> the backend a `use_backend` or UNIANIMATE_BACKEND binds it to
_BOUND: dict[str, str] = {}
_PROCESS_BACKEND = os.environ.get("UNIANIMATE_BACKEND") or None


def register(op: str, **backends: Backend) -> None:
    """Declare the backends of ``op`` in order of preference."""
    _BACKENDS[op] = backends
    if _PROCESS_BACKEND in backends:
        _BOUND[op] = _PROCESS_BACKEND


def choose(
    op: str,
    x: Tensor,
    backend: str | None,
    limits: Mapping[str, str | None] | None = None,
    slow: Collection[str] = (),
) -> str:
    """Return the name of the backend that serves a call of ``op`` on ``x``.

    Args:
        op: name of a registered op.
        x: the activation that decides device and dtype.
        backend: the caller's ``backend=`` argument; None takes the first that can serve.
        limits: backend -> why it cannot take this call's shapes, for what depends on them.
        slow: backends that later ones are faster than at this call's shapes: only by name.

    Raises:
        BackendError: the backend named by the caller, by `use_backend` or by
            ``UNIANIMATE_BACKEND`` cannot serve the call. A named backend never falls back.
    """
    backends = _BACKENDS[op]
    named = backend if backend is not None else _BOUND.get(op)
    if named is None:
        for name, candidate in backends.items():
            limit = None if limits is None else limits.get(name)
            willing = candidate.automatic and name not in slow
            if willing and limit is None and candidate.refuses(x) is None:
                return name
        raise BackendError(f"{op}: no backend can serve {x.dtype} tensors on {x.device.type}")
    if named not in backends:
        raise BackendError(
            f"{op}: there is no backend {named!r}; this op has {', '.join(backends)}"
        )
    reason = backends[named].refuses(x)
    if reason is None and limits is not None:
        reason = limits.get(named)
    if reason is not None:
        raise BackendError(f"{op}: backend {named!r} cannot serve this call: {reason}")
    return named


def bound() -> Mapping[str, str]:
    """Return op -> the backend that ``UNIANIMATE_BACKEND`` or a `use_backend` binds it to."""
    return _BOUND


def ops() -> tuple[str, ...]:
    """Return the names of all registered ops."""
    return tuple(_BACKENDS)


def backends_of(op: str) -> Mapping[str, Backend]:
    """Return the backends of ``op`` in order of preference."""
    if op not in _BACKENDS:
        raise ValueError(f"there is no op {op!r}; the ops are {', '.join(_BACKENDS)}")
    return _BACKENDS[op]


def available_backends(op: str) -> dict[str, str | None]:
    """Return backend -> None if it serves some device on this machine, else why it is off.

    Raises:
        ValueError: no op has this name.
    """
    return {
        name: backend.reason_off() or _no_device(backend)
        for name, backend in backends_of(op).items()
    }


def _no_device(backend: Backend) -> str | None:
    """Return which devices are missing where there is none that the backend serves."""
    served = [device for device in backend.dtypes if device not in backend.off]
    if "cpu" in served or any(getattr(torch, device).is_available() for device in served):
        return None
    return f"torch sees no {' or '.join(served)} device"


@contextmanager
def use_backend(backend: str | None = None, /, **of_op: str) -> Iterator[None]:
    """Bind ops to a backend inside a ``with`` block.

    ``use_backend("reference")`` binds every op that has a backend of that name; ops that have
    none keep their own order. ``use_backend(temporal_attention="xformers")`` binds single ops. A
    bound backend never falls back: a call it cannot serve raises `BackendError`. The binding
    belongs to the process, not to a thread, and blocks must nest: leave the last one first.

    Raises:
        ValueError: no op has such a backend, or there is no such op.
    """
    binding: dict[str, str] = {}
    if backend is not None:
        binding = {op: backend for op, backends in _BACKENDS.items() if backend in backends}
        if not binding:
            known = sorted({name for backends in _BACKENDS.values() for name in backends})
            raise ValueError(
                f"use_backend: no op has a backend {backend!r}; there are {', '.join(known)}"
            )
    for op, name in of_op.items():
        if name not in backends_of(op):
            raise ValueError(
                f"use_backend: {op} has no backend {name!r}; it has {', '.join(_BACKENDS[op])}"
            )
        binding[op] = name
    before = {op: _BOUND.get(op) for op in binding}
    _BOUND.update(binding)
    try:
        yield
    finally:
        for op, earlier in before.items():
            if earlier is None:
                del _BOUND[op]
            else:
                _BOUND[op] = earlier


def check_process_backend() -> None:
    """Refuse a ``UNIANIMATE_BACKEND`` that no op has; called once all ops are registered."""
    if _PROCESS_BACKEND is not None and _PROCESS_BACKEND not in _BOUND.values():
        known = sorted({name for backends in _BACKENDS.values() for name in backends})
        raise BackendError(
            f"UNIANIMATE_BACKEND={_PROCESS_BACKEND!r}: no op has such a backend; "
            f"there are {', '.join(known)}"
        )
