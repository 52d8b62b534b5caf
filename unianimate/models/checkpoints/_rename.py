"""The one way a state dict gets new names: every key is accounted for, or the call fails."""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

from torch import Tensor


class Rename(NamedTuple):
    """A tensor under a new name, perhaps seen in another shape. One source may have many."""

    source: str
    target: str
    change: Callable[[Tensor], Tensor] | None = None


def rename(
    function: str,
    state: Mapping[str, Tensor],
    renames: Iterable[Rename],
    *,
    ignored: Collection[str] = (),
) -> dict[str, Tensor]:
    """Return `state` in its new names, as views of its tensors.

    Args:
        function: The caller's name, for the error.
        state: The state dict to rename.
        renames: Every key that the state must have.
        ignored: Keys that it may have besides.

    Raises:
        ValueError: If a key is missing or left over; the message names them.
    """
    renames = list(renames)
    wanted = {r.source for r in renames}
    missing = [key for key in dict.fromkeys(r.source for r in renames) if key not in state]
    left_over = [key for key in state if key not in wanted and key not in ignored]
    if missing or left_over:
        parts = [
            f"{len(keys)} {what}: {listed(keys)}"
            for what, keys in (("missing", missing), ("left over", left_over))
            if keys
        ]
        raise ValueError(f"{function}: keys {'; '.join(parts)}")
    return {
        r.target: state[r.source] if r.change is None else r.change(state[r.source])
        for r in renames
    }


def listed(names: list[str], limit: int = 12) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def with_parameters(
    pairs: Iterable[tuple[str, str]], parameters: tuple[str, ...] = ("weight", "bias")
) -> list[Rename]:
    """Return the renames of modules that hold these parameters."""
    return [Rename(f"{a}.{p}", f"{b}.{p}") for a, b in pairs for p in parameters]


def count(keys: Iterable[str], prefix: str) -> int:
    """Return one more than the largest number that follows `prefix` in any key."""
    numbers = (key[len(prefix) :].split(".", 1)[0] for key in keys if key.startswith(prefix))
    return 1 + max((int(n) for n in numbers if n.isdigit()), default=-1)


def as_linear(weight: Tensor) -> Tensor:
    """View the weight of a convolution of kernel size 1 as that of a linear layer."""
    return weight.flatten(1)
