"""Poisoned outputs: what a kernel forgets to write is NaN and fails the test."""

import os

import pytest
import torch


def _poison(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.is_floating_point() and type(tensor) is torch.Tensor:
        tensor.fill_(float("nan"))
    return tensor


@pytest.fixture(autouse=True)
def poisoned_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    for owner, name in (
        (torch, "empty"),
        (torch, "empty_like"),
        (torch, "empty_strided"),
        (torch.Tensor, "new_empty"),
        (torch.Tensor, "new_empty_strided"),
    ):
        original = getattr(owner, name)

        def poisoned(*args, _original=original, **kwargs):
            return _poison(_original(*args, **kwargs))

        monkeypatch.setattr(owner, name, poisoned)


# these need an interpreting Triton: test_interpreted.py runs them in processes of their own
collect_ignore = [] if os.environ.get("TRITON_INTERPRET") == "1" else ["interpreted"]
