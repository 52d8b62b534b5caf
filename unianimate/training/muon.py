"""Muon: matrices are moved by orthogonalised momentum, everything else by AdamW."""

import math
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

# a matrix with fewer rows or columns has no spectrum to speak of
_LEAST = 16
# slope and fixed points of the quintic iteration, from the same source as the method
_QUINTIC = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5


def matrices_of(module: nn.Module) -> list[nn.Parameter]:
    """Return the trained weights of linear maps and convolutions that Muon is for.

    Tables of embeddings, gains, biases and thin weights, such as those of depthwise convolutions,
    are none.
    """
    return [
        weight
        for part in module.modules()
        if not isinstance(part, nn.Embedding)
        for name, weight in part.named_parameters(recurse=False)
        if name == "weight" and weight.requires_grad and _is_matrix(weight)
    ]


class Muon(torch.optim.AdamW):
    """Momentum whose singular values are all brought near one (Jordan et al. 2024).

    kellerjordan.github.io/posts/muon. A convolution is a matrix of its output channels by all the
    rest. Updates have the size that AdamW's have, so both share a learning rate
    (arXiv 2502.16982). `torch.optim.Muon` takes two-dimensional weights alone and rounds to
    bfloat16, which few CPUs compute in. Processes that hold the same gradients share out the work.

    Args:
        matrices: see `matrices_of`.
        others: parameters that AdamW moves.
        lr: learning rate of both.
        momentum: of the matrices; Nesterov's.
        betas: of AdamW.
        weight_decay: of both.
    """

    def __init__(
        self,
        matrices: list[nn.Parameter],
        others: list[nn.Parameter],
        *,
        lr: float,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.01,
    ) -> None:
        groups: list[dict[str, Any]] = [
            {"params": parameters, "momentum": momentum if parameters is matrices else None}
            for parameters in (matrices, others)
            if parameters
        ]
        super().__init__(groups, lr=lr, betas=betas, weight_decay=weight_decay, fused=True)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move every parameter that has a gradient; those of matrices are used up."""
        for group in self.param_groups:
            if group["momentum"] is not None:
                self._move_matrices(group)
        return super().step(closure)

    def _move_matrices(self, group: dict[str, Any]) -> None:
        alike: dict[tuple[int, int], list[tuple[nn.Parameter, Tensor]]] = defaultdict(list)
        for weight in group["params"]:
            if weight.grad is None:
                continue
            state = self.state[weight]
            if not state:
                state["momentum"] = torch.zeros_like(weight)
                state["step"] = torch.zeros(())  # AdamW looks for it when a state is loaded
            state["step"] += 1
            state["momentum"].lerp_(weight.grad, 1 - group["momentum"])
            ahead = weight.grad.lerp(state["momentum"], group["momentum"]).flatten(1)
            alike[ahead.shape[0], ahead.shape[1]].append((weight, ahead))
            weight.grad = None
        for (rows, columns), pairs in alike.items():
            step = group["lr"] * 0.2 * math.sqrt(max(rows, columns))
            moves = _shared(torch.stack([ahead for _, ahead in pairs]))
            for (weight, _), move in zip(pairs, moves, strict=True):
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.add_(move.view(weight.shape), alpha=-step)


def orthogonalised(matrices: Tensor) -> Tensor:
    """Bring the singular values of matrices (N, rows, columns) near one (0.7 to 1.2)."""
    a, b, c = _QUINTIC
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


def _shared(matrices: Tensor) -> Tensor:
    """Orthogonalise matrices, each in one of the processes."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return orthogonalised(matrices)
    mine = slice(dist.get_rank(), None, dist.get_world_size())
    done = torch.zeros_like(matrices)
    done[mine] = orthogonalised(matrices[mine])
    dist.all_reduce(done)
    return done


def _is_matrix(weight: Tensor) -> bool:
    return weight.ndim >= 2 and min(weight.shape[0], weight[0].numel()) >= _LEAST
