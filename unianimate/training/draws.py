"""Random draws that depend on the run's seed and the example's number, and on nothing else.

So a batch may be spread over processes or run in parts, and a run may be resumed anywhere.
"""

import numpy as np
import torch


def generator_of(*key: int) -> torch.Generator:
    """Return a CPU generator for a key of non-negative numbers."""
    return torch.Generator().manual_seed(seed_of(*key))


def seed_of(*key: int) -> int:
    """Return a seed for a key of non-negative numbers."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)
