"""A quicker interpreter: most of its time goes into patching what is patched already."""

import pytest
from triton.runtime import interpreter


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
