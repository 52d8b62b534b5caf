"""Whether layers may be run by an op of several, which reads nothing but their parameters."""

from torch import nn


def are_plain(kinds: tuple[type[nn.Module], ...], *layers: nn.Module) -> bool:
    """Return whether the layers are of these kinds and do no more than their parameters say.

    An adapter (LoRA) or a quantised layer in the place of one, or a hook on it, does more.
    """
    return all(
        type(layer) in kinds and not (layer._forward_hooks or layer._forward_pre_hooks)
        for layer in layers
    )
