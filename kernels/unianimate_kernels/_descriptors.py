"""Products whose tiles a GPU's copy engine moves, through Triton's tensor descriptors.

What lies outside a tensor is read as zero, and is not written.
"""

import torch
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

# compute capability: tiles were chosen on it, others have less shared memory or other tensor cores
_MAJOR = 9
_BYTES = 16  # what rows and addresses are multiples of


def takes_tiles(x: Tensor, *widths: int) -> bool:
    """Return whether products of rows of such widths are computed so in x's dtype, where x is."""
    if x.dtype not in (torch.bfloat16, torch.float16):
        return False
    if x.is_cuda and (
        torch.version.hip is not None or torch.cuda.get_device_properties(x.device).major != _MAJOR
    ):
        return False
    return not any(width * x.itemsize % _BYTES for width in widths)


def descriptor(x: Tensor, *block: int) -> TensorDescriptor:
    """Describe tiles of so many numbers along the axes of a dense tensor; copies another one."""
    # an axis of one may have any stride: the second view gives it its own
    x = x.contiguous().view(-1).view(x.shape)
    return TensorDescriptor.from_tensor(x if x.data_ptr() % _BYTES == 0 else x.clone(), list(block))


def programs_at_once(x: Tensor) -> int:
    """Return how many programs that fill a multiprocessor run at once; some, without a GPU."""
    return torch.cuda.get_device_properties(x.device).multi_processor_count if x.is_cuda else 3
