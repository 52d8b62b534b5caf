"""Whether layers may be run by an op of several, which reads nothing but their parameters.

Layers and parameters are taken from the dictionaries of their modules: looking up an attribute of
an `nn.Module` is Python, and a transformer would need sixty of them for a call.
"""

from torch import Tensor, nn


def layers_of(module: nn.Module | None, *names: str) -> list[nn.Module | None]:
    """Return a module and layers of it, None for those that are not there."""
    if module is None:
        return [None]
    return [module, *(module._modules.get(name) for name in names)]


def plain_parameters(
    kinds: tuple[type[nn.Module], ...], *layers: nn.Module | None
) -> list[Tensor] | None:
    """Return the parameters of layers, one layer after the other.

    None if a layer is not of these kinds or does more than its parameters say: an adapter (LoRA) or
    a quantised layer in the place of one, or a hook on it.
    """
    parameters: list[Tensor] = []
    for layer in layers:
        if layer is None or type(layer) not in kinds:
            return None
        if layer._forward_hooks or layer._forward_pre_hooks:
            return None
        parameters += [p for p in layer._parameters.values() if p is not None]
    return parameters
