"""One video by several processes: they share the windows of every step, and nothing else."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from .checkpoint import Frame, SamplerState, Store

T = TypeVar("T")

# longer than any window takes: when a process dies, torchrun ends the others
_PATIENCE = timedelta(days=1)


@dataclass(frozen=True)
class Processes:
    """The processes that make one video together, as one of them sees them.

    Args:
        rank: number of this process; 0 is the one that writes.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def agree(self, tensor: Tensor) -> Tensor:
        """Return the first process's tensor in every process."""
        return self._broadcast(tensor, 0)

    def agree_on(self, thing: T) -> T:
        """Return the first process's object in every process; it is pickled."""
        if self.size == 1:
            return thing
        box = [thing]
        dist.broadcast_object_list(box, 0)
        return box[0]

    def share(
        self, items: Sequence[T], compute: Callable[[T], Tensor], empty: Callable[[T], Tensor]
    ) -> Iterator[Tensor]:
        """Yield ``compute(item)`` of all items, in order, in every process.

        Each process computes every `size`-th item. All get the same bits, and so does whoever adds
        them up, however many processes there are.

        Args:
            items: what is to be computed, the same in every process.
            compute: makes the tensor of an item.
            empty: makes a tensor of the same shape, dtype and device to be filled.
        """
        for start in range(0, len(items), self.size):
            turn = items[start : start + self.size]
            mine = compute(turn[self.rank]) if self.rank < len(turn) else None
            for owner, item in enumerate(turn):
                tensor = mine if owner == self.rank and mine is not None else empty(item)
                yield self._broadcast(tensor, owner)

    def _broadcast(self, tensor: Tensor, source: int) -> Tensor:
        if self.size == 1:
            return tensor
        # what is sent must lie in memory in the order of its indices
        tensor = tensor.contiguous()
        dist.broadcast(tensor, source)
        return tensor


ALONE = Processes()


class SharedStore:
    """A `Store` of the first process: it keeps what is finished, all go on from its state."""

    def __init__(self, store: Store, processes: Processes) -> None:
        self._store, self._processes = store, processes

    def frames(self) -> Iterator[Frame]:
        """Yield the frames that are kept, in the first process."""
        return self._store.frames() if self._processes.is_first else iter(())

    def keep_frame(self, number: int, frame: Frame) -> None:
        """Keep a final frame; only the first process has any."""
        self._store.keep_frame(number, frame)

    def load(self) -> SamplerState | None:
        """Return the last state that the first process saved."""
        return self._processes.agree_on(self._store.load() if self._processes.is_first else None)

    def save(self, state: SamplerState) -> None:
        """Keep this state, in the first process."""
        if self._processes.is_first:
            self._store.save(state)


@contextmanager
def torchrun_processes() -> Iterator[Processes]:
    """Join the processes that ``torchrun`` started; without it, this one is alone.

    They talk by NCCL where there are GPUs, each process taking the one of its local rank, else by
    gloo. When one of them fails, ``torchrun`` ends all.

    Raises:
        ValueError: more processes on this machine than it has GPUs.
    """
    if not (dist.is_available() and dist.is_torchelastic_launched()):
        yield ALONE
        return
    if torch.cuda.is_available():
        local, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= gpus:
            raise ValueError(
                f"torchrun: process {local} has no GPU, this machine has {gpus}: start at most "
                f"--nproc-per-node={gpus}"
            )
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=_PATIENCE)
    yield Processes(dist.get_rank(), dist.get_world_size())
    # not after an error: the others may be waiting for this process, and its end tells them
    dist.destroy_process_group()
