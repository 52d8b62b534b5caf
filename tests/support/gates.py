"""How an op's backend is held against float64 truth: outputs and, where it has them, gradients.

The gate: max error <= 2 x the error of plain torch (the reference) in the same dtype, plus
4 eps(dtype) x the largest float64 value.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

Inputs = dict[str, Any]


def cast(inputs: Mapping[str, Any], dtype: torch.dtype, parameters: frozenset[str]) -> Inputs:
    """Cast activations to ``dtype``; ``parameters`` are float32, or float64 with float64."""
    kept = torch.float64 if dtype == torch.float64 else torch.float32
    return {
        name: _to(value, kept if name in parameters else dtype) for name, value in inputs.items()
    }


def _to(value: Any, dtype: torch.dtype) -> Any:
    """Cast what is floating: a tensor, or those in a list."""
    if isinstance(value, list):
        return [_to(item, dtype) for item in value]
    floating = isinstance(value, Tensor) and value.is_floating_point()
    return value.to(dtype) if floating else value


def run(
    op: Callable[..., Any], inputs: Mapping[str, Any], *, gradients: bool = True, **options: Any
) -> dict[str, Tensor]:
    """Return outputs ("output", "final_state") and gradients ("grad of NAME") of one call.

    The cotangents are fixed by the output's shape alone, so that runs can be compared. Strides of
    the inputs are kept: the leaves are the tensors themselves. Ops for inference alone are run
    without `gradients`.
    """
    if not gradients:
        with torch.no_grad():
            return {"output": op(**inputs, **options)}
    leaves = {
        name: value.detach().requires_grad_()
        for name, value in inputs.items()
        if isinstance(value, Tensor) and value.is_floating_point()
    }
    result = op(**{**inputs, **leaves}, **options)
    outputs = {"output": result} if isinstance(result, Tensor) else dict(result._asdict())
    loss = torch.zeros((), dtype=torch.float64)
    for index, value in enumerate(outputs.values()):
        generator = torch.Generator().manual_seed(index)
        cotangent = torch.randn(value.shape, generator=generator, dtype=torch.float64)
        # through the value's own dtype, as a network's gradient would come
        loss = loss + (value * cotangent.to(value.dtype).to(value.device)).double().sum().cpu()
    found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    for name, gradient in zip(leaves, found, strict=True):
        assert gradient is not None, f"no gradient reached {name}"
        outputs[f"grad of {name}"] = gradient
    return {name: value.detach() for name, value in outputs.items()}


def check(
    op: Callable[..., Any],
    inputs: Mapping[str, Any],
    *,
    backend: str,
    dtype: torch.dtype,
    parameters: frozenset[str] = frozenset(),
    slack: float = 1.0,
    gradients: bool = True,
    **options: Any,
) -> None:
    """Assert the gate for one call of ``op`` with ``backend``; ``inputs`` may be strided views."""
    rounded = cast(inputs, dtype, parameters)
    exact = {name: _to(value, torch.float64) for name, value in rounded.items()}
    truth = run(op, exact, backend="reference", gradients=gradients, **options)
    plain = run(op, rounded, backend="reference", gradients=gradients, **options)
    got = run(op, rounded, backend=backend, gradients=gradients, **options)
    for name, value in truth.items():
        assert got[name].shape == value.shape, name
        assert got[name].dtype == plain[name].dtype, name
        if value.numel() == 0:
            continue
        error = (got[name].double() - value).abs().max().item()
        # torch's bfloat16 convolutions now and then give nan for finite numbers: no allowance then
        allowed = 2 * (plain[name].double() - value).abs().max().nan_to_num(0.0).item()
        allowed += 4 * torch.finfo(plain[name].dtype).eps * value.abs().max().item()
        assert error <= slack * allowed, (
            f"{name}: error {error:.3e} exceeds {slack * allowed:.3e} "
            f"({backend}, {dtype}, largest value {value.abs().max().item():.3e})"
        )
