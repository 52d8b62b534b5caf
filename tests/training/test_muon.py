"""Muon: against the polar factor, torch's own for matrices, and AdamW for the rest."""

import pytest
import torch
from tiny_run import run, tiny, weights
from torch import nn

from unianimate.blocks import TemporalMamba
from unianimate.training.muon import Muon, matrices_of, orthogonalised


@pytest.mark.parametrize("shape", [(3, 32, 32), (2, 24, 90), (1, 70, 20)])
def test_singular_values_come_near_one_and_vectors_stay(shape):
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 1e-3
    u, before, v = torch.linalg.svd(matrices, full_matrices=False)
    seen = u.mT @ orthogonalised(matrices) @ v.mT
    values = seen.diagonal(dim1=1, dim2=2)
    clear = before > 0.05 * before.amax()
    assert clear.float().mean() > 0.9
    assert values[clear].min() > 0.6 and values.max() < 1.3
    torch.testing.assert_close(seen, torch.diag_embed(values), atol=1e-3, rtol=0)


def test_a_gradient_of_zeros_moves_nothing():
    assert not orthogonalised(torch.zeros(2, 16, 16)).any()


def test_matrices_are_trained_weights_of_linear_maps_and_convolutions():
    net = nn.ModuleDict(
        {
            "linear": nn.Linear(16, 32),
            "conv": nn.Conv2d(4, 16, 3),
            "thin": nn.Linear(64, 15),
            "table": nn.Embedding(64, 64),
            "norm": nn.LayerNorm(64),
            "frozen": nn.Linear(64, 64).requires_grad_(False),
        }
    )
    wanted = [net["linear"].weight, net["conv"].weight]
    assert [id(p) for p in matrices_of(net)] == [id(p) for p in wanted]


def test_of_mamba_the_projections_alone_are_matrices():
    mixer = TemporalMamba(32)
    known = set(map(id, matrices_of(mixer)))
    names = {name for name, p in mixer.named_parameters() if id(p) in known}
    assert names and all("proj" in name for name in names)


def test_a_matrix_moves_as_by_torch_and_the_rest_as_by_adamw():
    generator = torch.Generator().manual_seed(0)
    start, bias = torch.randn(48, 4, 3, 3, generator=generator), torch.randn(5, generator=generator)
    ours, rest = nn.Parameter(start.clone()), nn.Parameter(bias.clone())
    theirs, plain = nn.Parameter(start.flatten(1).clone()), nn.Parameter(bias.clone())
    rates = {"lr": 0.01, "weight_decay": 0.1}
    muon = Muon([ours], [rest], betas=(0.9, 0.99), **rates)
    peers = [
        torch.optim.Muon([theirs], momentum=0.95, adjust_lr_fn="match_rms_adamw", **rates),
        torch.optim.AdamW([plain], betas=(0.9, 0.99), fused=True, **rates),
    ]
    for _ in range(3):
        ours.grad = torch.randn(start.shape, generator=generator)
        theirs.grad = ours.grad.flatten(1).clone()
        rest.grad = torch.randn(5, generator=generator)
        plain.grad = rest.grad.clone()
        for optimizer in (muon, *peers):
            optimizer.step()
    assert torch.equal(rest, plain)
    moved, wanted = ours.flatten(1) - start.flatten(1), theirs - start.flatten(1)
    # torch rounds to bfloat16 on the way
    assert (moved - wanted).norm() < 0.02 * wanted.norm()


def test_a_run_in_parts_is_one_at_once(tmp_path, cache):
    for steps in (2, 4):
        in_parts = run(tmp_path / "a", tiny(cache, steps=steps, optimizer__kind="muon"))
    at_once = run(tmp_path / "b", tiny(cache, steps=4, optimizer__kind="muon"))
    assert in_parts == at_once
    ours, theirs = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert all(torch.equal(ours[name], x) for name, x in theirs.items())
    by_adamw = run(tmp_path / "c", tiny(cache, steps=4))
    assert by_adamw[0]["loss"] == at_once[0]["loss"] and by_adamw[3]["loss"] != at_once[3]["loss"]
