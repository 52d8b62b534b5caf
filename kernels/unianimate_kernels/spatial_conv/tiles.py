"""The tiles of the native 3x3 convolution, and whether they make it the faster one."""

import torch
from torch import Tensor

from .._library import bfloat16_products
from .._packed import keeps

# results on a side of a tile of the native form: larger ones need fewer products but lose digits,
# of which bfloat16 has few
SIDES = {torch.float32: 2, torch.bfloat16: 4}
# what its products cost with all that is around them, and for how many products of a tile reading
# the weight stands, if it is packed at every call or kept: fitted to measurements (README)
_AROUND, _PACKED, _KEPT = 1.3, 1400, 200


def tiled(x: Tensor) -> tuple[int, int]:
    """Return how many products a tile of the native form takes, and how many tiles there are."""
    items, _, height, width = x.shape
    side = SIDES[x.dtype]
    return (side + 2) ** 2, items * -(-height // side) * -(-width // side)


def native_pays(x: Tensor, weight: Tensor) -> bool:
    """Return whether the native form should be faster than nine products a result."""
    if x.dtype not in SIDES:
        return False
    items, _, height, width = x.shape
    products, tiles = tiled(x)
    rate = 2 if x.dtype == torch.bfloat16 and bfloat16_products() else 1
    of_weight = _KEPT if keeps([weight]) else _PACKED
    return 9 * items * height * width / rate > _AROUND * (products * tiles + of_weight)
