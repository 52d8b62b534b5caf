"""Training: one loop for every stage, and what a run reads and writes."""

from .config import TrainConfig, load_config

__all__ = ["TrainConfig", "load_config"]
