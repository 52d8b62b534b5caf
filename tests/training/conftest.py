import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    """One thread: sums are in one order, and tensors so small that threads would wait."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """Where all tiny runs keep their pictures and latents: they are made once."""
    return tmp_path_factory.mktemp("training") / "cache"
