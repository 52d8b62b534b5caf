"""What this machine can run: versions, devices, and every op x backend, each tried out.

"Installed" does not mean "usable", so `report` runs every backend that says it can serve on a tiny
input and compares it with the reference. That stays off the call path.
"""

import platform
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import unianimate_kernels as kernels

from . import _dispatch, _library

# far above float32 rounding, far below a wrong result
_TOLERANCE = 1e-3


def _example(op: str, device: str) -> dict[str, Any]:
    """Return small arguments of ``op``: 1 item, 5 frames, 3 locations."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device)

    sequence = (1, 5, 3)
    match op:
        case "selective_scan" | "bidirectional_selective_scan":
            width, d_state = 32, 8
            return {
                "x": random(*sequence, width),
                "dt": random(*sequence, width),
                "A": -random(width, d_state).exp(),
                "B": random(*sequence, d_state),
                "C": random(*sequence, d_state),
                "z": random(*sequence, width),
            }
        case "ssd_scan":
            return {
                "x": random(*sequence, 2, 16),
                "dt": random(*sequence, 2),
                "A": -random(2).exp(),
                "B": random(*sequence, 1, 16),
                "C": random(*sequence, 1, 16),
            }
        case "causal_conv1d":
            return {"x": random(*sequence, 32), "weight": random(32, 4), "bias": random(32)}
        case "group_norm_silu":
            x = random(2, 64, 4, 4).contiguous(memory_format=torch.channels_last)
            return {"x": x, "num_groups": 32, "weight": random(64), "bias": random(64)}
        case "rms_norm":
            return {"x": random(3, 32), "weight": random(32), "added": random(3, 32)}
        case "temporal_attention":
            return {name: random(*sequence, 2, 16) for name in ("q", "k", "v")}
        case "spatial_attention":
            return {name: random(2, rows, 2, 16) for name, rows in (("q", 5), ("k", 7), ("v", 7))}
        case "spatial_conv":
            x = random(2, 16, 5, 4).contiguous(memory_format=torch.channels_last)
            return {"x": x, "weight": random(16, 16, 3, 3), "bias": random(16)}
        case "temporal_conv":
            x = random(1, 16, 5, 2, 2).contiguous(memory_format=torch.channels_last_3d)
            return {"x": x, "weight": random(16, 16, 3, 1, 1), "bias": random(16)}
        case "temporal_conv_block":
            x = random(1, 32, 5, 2, 2).contiguous(memory_format=torch.channels_last_3d)
            lists = ("norm_weights", "norm_biases", "biases")
            return {
                "x": x,
                "num_groups": 16,
                "weights": [0.1 * random(32, 32, 3, 1, 1) for _ in range(4)],
                **{name: [random(32) for _ in range(4)] for name in lists},
            }
        case "resnet_block":
            x = random(2, 32, 5, 4).contiguous(memory_format=torch.channels_last)
            vectors, conv = [random(32), random(32)], [0.1 * random(32, 32, 3, 3), random(32)]
            layers = {"norm1": vectors, "conv1": conv, "norm2": vectors, "conv2": conv}
            layers["emb_proj"] = [0.1 * random(32, 48), random(32)]
            return {"x": x, "embedding": random(1, 48), "num_groups": 16, **layers}
        case "temporal_transformer" | "spatial_transformer":
            x = random(1, 32, 5, 2, 2).contiguous(memory_format=torch.channels_last_3d)
            vectors, linear = [random(32), random(32)], [0.1 * random(32, 32), random(32)]
            attention = [*vectors, *(0.1 * random(32, 32) for _ in range(4)), random(32)]
            wide = [0.1 * random(128, 32), random(128), 0.1 * random(32, 64), random(32)]
            context = {"context": random(1, 7, 32)} if op == "spatial_transformer" else {}
            return {
                "x": x,
                **context,
                "num_groups": 16,
                "norm": vectors,
                "proj_in": linear,
                "attentions": [attention, attention],
                "feed_forward": [*vectors, *wide],
                "proj_out": linear,
                "num_heads": 2,
            }
        case "geglu":
            return {"x": random(3, 64)}
        case "feed_forward":
            norm = {"norm_weight": random(32), "norm_bias": random(32)}
            inner = {"weight_in": random(128, 32), "bias_in": random(128)}
            outer = {"weight_out": random(32, 64), "bias_out": random(32)}
            return {"x": random(3, 32), **norm, **inner, **outer}
    raise ValueError(f"there is no op {op!r}")


def try_out(op: str, backend: str, device: str) -> str | None:
    """Run ``backend`` of ``op`` on a tiny input; return what is wrong with it, or None."""
    call: Callable[..., Tensor] = getattr(kernels, op)
    try:
        arguments = _example(op, device)
        wanted = call(**arguments, backend="reference")
        got = call(**arguments, backend=backend)
        error = (got - wanted).abs().max().item()
    except Exception as failure:
        lines = str(failure).strip().splitlines() or [type(failure).__name__]
        return f"it fails: {lines[0]}"
    if not error <= _TOLERANCE * max(1.0, wanted.abs().max().item()):
        return f"its result is off by {error:.1e}: please report this"
    return None


def devices() -> list[str]:
    """Return the device types with tensors on this machine."""
    return ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def backends() -> dict[str, dict[str, dict[str, str | None]]]:
    """Return op -> backend -> device type -> None where it works, else why it is off."""
    found: dict[str, dict[str, dict[str, str | None]]] = {}
    for op in _dispatch.ops():
        found[op] = {}
        for name, backend in _dispatch.backends_of(op).items():
            served = [device for device in devices() if device in backend.dtypes]
            states = {d: backend.off.get(d) or try_out(op, name, d) for d in served}
            if not served:
                states = {
                    d: backend.off.get(d, f"torch sees no {d} device") for d in backend.dtypes
                }
            found[op][name] = states
    return found


def report() -> dict[str, Any]:
    """Return versions, devices, the native build and `backends`, ready for JSON."""
    build = _library.build_report()
    gpus = []
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            gpus.append(
                f"{properties.name}, sm_{properties.major}{properties.minor}, "
                f"{properties.total_memory / 2**30:.0f} GiB"
            )
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cpu": f"{platform.machine()}, {torch.get_num_threads()} threads, "
        f"torch {torch.backends.cpu.get_cpu_capability()}",
        "native cpu": _library.cpu_off or f"{_library.cpu_level} code",
        "native cuda": _library.cuda_off
        or "code for " + ", ".join(f"sm_{arch}" for arch in build.get("cuda_archs", [])),
        "gpus": gpus or ["none that torch sees"],
        "bound": dict(_dispatch.bound()),
        "backends": backends(),
    }
