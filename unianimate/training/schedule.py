"""The learning rate over a run."""

from unianimate.training.config import OptimizerConfig


def rate_at(step: int, steps: int, config: OptimizerConfig) -> float:
    """Return the share of the learning rate at a step: up, a plateau, down.

    The plateau depends on no length, so a run can be prolonged, and cut short by a lower `steps`.

    Args:
        step: from 0.
        steps: of the whole run.
        config: warm-up, decay and what remains at the end.
    """
    up = min(1.0, (step + 1) / max(1, config.warmup))
    left = steps - step - 1
    if left >= config.decay:
        return up
    return min(up, config.final + (1 - config.final) * left / config.decay)
