"""The gates of every op and GPU backend on a real GPU; nothing here runs without one.

What the CPU cannot show: the GPU's own rounding, alignment, streams, CUDA graphs, huge offsets.
"""

from typing import Any

import gates
import pytest
import torch
from layer_inputs import (
    conv_inputs,
    feed_forward_inputs,
    resnet_inputs,
    spatial_inputs,
    transformer_inputs,
)
from torch.utils._python_dispatch import TorchDispatchMode

import unianimate_kernels as kernels
from unianimate_kernels._dispatch import backends_of, ops

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]

DEVICE = "cuda"
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
FRAMES = (1, 2, 3, 4, 5, 15, 16, 17, 33, 65, 87, 97)
CASES = [(op, backend) for op in ops() for backend in ("native", "triton")]
# ops of whole layers and others that have no gradient of their own
INFERENCE = (
    "feed_forward",
    "temporal_transformer",
    "spatial_transformer",
    "temporal_conv_block",
    "resnet_block",
    "rms_norm",
)
TRAINED = [(op, backend) for op, backend in CASES if op not in INFERENCE]
PARAMETERS = {
    "selective_scan": {"A", "D", "dt_bias", "initial_state"},
    "bidirectional_selective_scan": {"A", "D", "dt_bias"},
    "ssd_scan": {"A", "D", "dt_bias", "initial_state"},
    "causal_conv1d": {"initial_state"},
}
SPACE = 6


def make_inputs(op: str, frames: int) -> dict[str, Any]:
    """Return float64 arguments of ``op``, with every optional tensor, on the GPU."""
    generator = torch.Generator().manual_seed(frames)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(DEVICE)

    rows, width, d_state = (2, frames, SPACE), 66, 16
    match op:
        case "selective_scan" | "bidirectional_selective_scan":
            inputs = {
                **{name: random(*rows, width) for name in ("x", "dt", "z")},
                **{name: random(*rows, d_state) for name in ("B", "C")},
                **{name: random(width) for name in ("D", "dt_bias")},
                "A": -random(width, d_state).exp(),
            }
            if op == "selective_scan":
                inputs |= {"initial_state": random(2, SPACE, width, d_state)}
            return inputs
        case "ssd_scan":
            return {
                **{name: random(*rows, 4, 16) for name in ("x", "z")},
                **{name: random(*rows, 2, d_state) for name in ("B", "C")},
                **{name: random(4) for name in ("D", "dt_bias")},
                "dt": random(*rows, 4),
                "A": -random(4).exp(),
                "initial_state": random(2, SPACE, 4, 16, d_state),
            }
        case "causal_conv1d":
            state = random(2, SPACE, 3, width)
            weight, bias = random(width, 4), random(width)
            return {"x": random(*rows, width), "weight": weight, "bias": bias,
                    "initial_state": state}  # fmt: skip
        case "group_norm_silu":
            x = random(frames, 64, 3, 5).contiguous(memory_format=torch.channels_last)
            weight, bias = random(64), random(64)
            return {"x": x, "num_groups": 32, "weight": weight, "bias": bias,
                    "embedding": random(frames, 64)}  # fmt: skip
        case "temporal_attention":
            return {name: random(*rows, 2, 32) for name in ("q", "k", "v")}
        case "spatial_attention":
            return {name: random(2, n, 2, 32) for name, n in zip("qkv", (9, frames, frames))}
        case "temporal_conv":
            x = random(2, 16, frames, 2, 3).contiguous(memory_format=torch.channels_last_3d)
            return {"x": x, "weight": random(24, 16, 3, 1, 1), "bias": random(24)}
        case "rms_norm":
            x, added = random(2, frames, SPACE, width)
            return {"x": x, "weight": random(width), "added": added}
        case "geglu":
            return {"x": random(*rows, 2 * width)}
        case "feed_forward":
            return on_gpu(feed_forward_inputs((frames, SPACE), 72, 40))
        case "temporal_transformer":
            return on_gpu(transformer_inputs(2, frames, 2, 3, 96, 32, 2, 32, 132))
        case "spatial_transformer":
            return on_gpu(spatial_inputs(1, frames, 3, 5, 96, 32, 3, 32, 136, 7, 48))
        case "temporal_conv_block":
            return on_gpu(conv_inputs(2, frames, 3, 4, 96, 32))
        case "resnet_block":
            return on_gpu(resnet_inputs(frames, 4, 5, 64, 96, 32))
    raise ValueError(f"no example of {op}: add one")


def on_gpu(inputs: dict[str, Any]) -> dict[str, Any]:
    """Move tensors, and those in lists of them."""

    def move(value: Any) -> Any:
        if isinstance(value, list):
            return [move(item) for item in value]
        return value.to(DEVICE) if isinstance(value, torch.Tensor) else value

    return {name: move(value) for name, value in inputs.items()}


def parameters(op: str) -> frozenset[str]:
    return frozenset(PARAMETERS.get(op, ()))


def skip_if_off(op: str, backend: str) -> None:
    """Skip what is not there: an op without this backend, a build without CUDA."""
    if backend not in backends_of(op):
        pytest.skip(f"{op} has no backend {backend}")
    reason = backends_of(op)[backend].refuses(torch.zeros(1, device=DEVICE))
    if reason is not None:
        pytest.skip(reason)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("frames", FRAMES)
@pytest.mark.parametrize(("op", "backend"), CASES)
def test_meets_the_gate(op, backend, frames, dtype):
    skip_if_off(op, backend)
    gates.check(
        getattr(kernels, op),
        make_inputs(op, frames),
        backend=backend,
        dtype=dtype,
        parameters=parameters(op),
        gradients=op not in INFERENCE,
    )


@pytest.mark.parametrize(("op", "backend"), CASES)
def test_results_are_deterministic_on_any_stream(op, backend):
    skip_if_off(op, backend)
    inputs = gates.cast(make_inputs(op, 17), torch.bfloat16, parameters(op))
    options = {"backend": backend, "gradients": op not in INFERENCE}
    first = gates.run(getattr(kernels, op), inputs, **options)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        second = gates.run(getattr(kernels, op), inputs, **options)
    torch.cuda.current_stream().wait_stream(stream)
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


class Recorder(TorchDispatchMode):
    """Keeps the calls of our registered ops."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, tuple[Any, ...]]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == "unianimate":
            self.calls.append((func, args))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("op", "backend"), TRAINED)
def test_opcheck(op, backend):
    skip_if_off(op, backend)
    inputs = gates.cast(make_inputs(op, 5), torch.float32, parameters(op))
    with Recorder() as recorder:
        getattr(kernels, op)(**inputs, backend=backend)
    for function, args in recorder.calls:
        leaves = [
            a.detach().requires_grad_(a.is_floating_point()) if isinstance(a, torch.Tensor) else a
            for a in args
        ]
        torch.library.opcheck(function, tuple(leaves))


@pytest.mark.parametrize(("op", "backend"), TRAINED)
def test_cuda_graph_replays_forward_and_backward(op, backend):
    skip_if_off(op, backend)
    call = getattr(kernels, op)
    inputs = gates.cast(make_inputs(op, 17), torch.float32, parameters(op))
    leaves = {
        name: value.detach().clone().requires_grad_()
        for name, value in inputs.items()
        if isinstance(value, torch.Tensor)
    }

    def step() -> tuple[torch.Tensor, ...]:
        output = call(**{**inputs, **leaves}, backend=backend)
        return (output, *torch.autograd.grad(output.square().sum(), list(leaves.values())))

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    with torch.no_grad():
        for value in leaves.values():
            value.mul_(0.5)
    wanted = step()
    graph.replay()
    for got, want in zip(captured, wanted, strict=True):
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize("width", [320, 512])  # tiles of either form
@pytest.mark.parametrize("frames", [1, 2, 17])
def test_convolutions_over_frames_of_a_network_meet_the_gate(frames, width):
    """More tiles than a GPU runs at once, so that programs take several."""
    inputs = on_gpu(conv_inputs(2, frames, 40, 60, width, 32))
    options = {"backend": "triton", "dtype": torch.bfloat16, "gradients": False}
    gates.check(kernels.temporal_conv_block, inputs, **options)


@pytest.mark.parametrize("rows", [1, 129, 20_000])
def test_feed_forward_of_a_network_meets_the_gate(rows):
    inputs = on_gpu(feed_forward_inputs((rows,), 320, 1280))
    options = {"backend": "triton", "dtype": torch.bfloat16, "gradients": False}
    gates.check(kernels.feed_forward, inputs, **options)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("frames", [17, 65, 150])  # one chunk, and several
@pytest.mark.parametrize("backend", ["native", "triton"])
def test_ssd_scan_of_a_network_meets_the_gate(backend, frames, dtype):
    skip_if_off("ssd_scan", backend)
    inputs = make_inputs("ssd_scan", frames)
    generator = torch.Generator().manual_seed(frames)
    for name, heads in (("x", 4), ("z", 4), ("B", 2), ("C", 2)):
        value = torch.randn(2, frames, SPACE, heads, 64, generator=generator, dtype=torch.float64)
        inputs[name] = value.to(DEVICE)
    del inputs["initial_state"]
    gates.check(
        kernels.ssd_scan,
        inputs,
        backend=backend,
        dtype=dtype,
        parameters=parameters("ssd_scan"),
        reverse=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["native", "triton"])
def test_offsets_beyond_32_bits(backend):
    skip_if_off("selective_scan", backend)
    frames, space, width, d_state, last = 2, 900_000, 1280, 16, 4
    if torch.cuda.mem_get_info()[0] < 24 * 2**30:
        pytest.skip("needs 24 GiB of free GPU memory")
    x = torch.randn(1, frames, space, width, device=DEVICE, dtype=torch.bfloat16)
    B = torch.randn(1, frames, space, d_state, device=DEVICE, dtype=torch.bfloat16)
    A = -torch.rand(width, d_state, device=DEVICE)
    got = kernels.selective_scan(x, x, A, B, B, backend=backend)[:, :, -last:]
    x, B = x[:, :, -last:], B[:, :, -last:]
    want = kernels.selective_scan(x, x, A, B, B, backend="reference")
    torch.testing.assert_close(got, want, rtol=2e-2, atol=2e-2)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["native", "triton"])
def test_ssd_scan_offsets_beyond_32_bits(backend):
    skip_if_off("ssd_scan", backend)
    frames, space, heads, width, last = 2, 900_000, 20, 64, 4
    if torch.cuda.mem_get_info()[0] < 24 * 2**30:
        pytest.skip("needs 24 GiB of free GPU memory")

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(1, frames, space, *shape, device=DEVICE, dtype=torch.bfloat16)

    x, dt, B = random(heads, width), random(heads), random(1, width)
    A = -torch.rand(heads, device=DEVICE)
    got = kernels.ssd_scan(x, dt, A, B, B, backend=backend)[:, :, -last:]
    x, dt, B = x[:, :, -last:], dt[:, :, -last:], B[:, :, -last:]
    want = kernels.ssd_scan(x, dt, A, B, B, backend="reference")
    if backend == "native":  # its products are of float32
        torch.testing.assert_close(got, want, rtol=2e-2, atol=2e-2)
    else:  # as in the gates: products of bfloat16 are off by a part of the largest, not of each
        off = 4 * torch.finfo(want.dtype).eps * want.abs().max().item()
        torch.testing.assert_close(got, want, rtol=0, atol=off)
