"""A quicker and stricter interpreter."""

import numpy as np
import pytest
from triton.runtime import interpreter
from triton.tools.tensor_descriptor import TensorDescriptor


@pytest.fixture(autouse=True, scope="session")
def patch_the_language_once_a_module():
    """Spare all but the first call of a module's device functions the patching of their language.

    A launch patches ``triton.language`` for the kernel's own module and undoes it afterwards; what
    a device function of another module patches, such as `tl.sum`, is never undone.
    """
    patched = set()

    def call(self, *args, **kwargs):
        if self.fn.__module__ not in patched:
            interpreter._patch_lang(self.fn)
            patched.add(self.fn.__module__)
        return self.rewrite()(*args, **kwargs)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(interpreter.InterpretedFunction, "__call__", call)
        yield


@pytest.fixture(autouse=True, scope="session")
def only_memory_of_the_arguments_is_touched():
    """Fail where a lane that is not masked reads or writes outside the tensors of its launch."""
    builder, executor = interpreter.InterpreterBuilder, interpreter.GridExecutor
    prepare, load, store = (
        executor._init_args_hst,
        builder.create_masked_load,
        builder.create_masked_store,
    )
    memory = []

    def note(self, *args):
        prepared = prepare(self, *args)
        memory[:] = storages(prepared)
        return prepared

    def check(pointers, mask):
        touched = pointers.data[np.broadcast_to(mask.data, pointers.data.shape)]
        if touched.size:
            first, last = int(touched.min()), int(touched.max())
            inside = any(begin <= first and last < end for begin, end in memory)
            assert inside, f"{first:#x} to {last:#x} are outside all arguments"

    def checked_load(self, pointers, mask, *args, **kwargs):
        check(pointers, mask)
        return load(self, pointers, mask, *args, **kwargs)

    def checked_store(self, pointers, value, mask, *args, **kwargs):
        check(pointers, mask)
        return store(self, pointers, value, mask, *args, **kwargs)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(executor, "_init_args_hst", note)
        monkeypatch.setattr(builder, "create_masked_load", checked_load)
        monkeypatch.setattr(builder, "create_masked_store", checked_store)
        yield


def storages(value):
    """Return (begin, end) of the memory of all tensors in arguments of a launch."""
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, (tuple, list)):
        return [found for item in value for found in storages(item)]
    value = value.base if isinstance(value, TensorDescriptor) else value
    if not hasattr(value, "untyped_storage"):
        return []
    storage = value.untyped_storage()
    return [(storage.data_ptr(), storage.data_ptr() + storage.nbytes())]
