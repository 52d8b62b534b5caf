"""With gradients off an op skips autograd: what else may stand in its way still sees it."""

import pytest
import torch
from dispatch_counters import OpNames
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode

from unianimate_kernels import geglu, group_norm_silu

NAME = "unianimate.geglu_native.default"


def op(x: Tensor) -> Tensor:
    return geglu(x, backend="native")


@pytest.fixture
def x() -> Tensor:
    return torch.randn(3, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=[torch.no_grad, torch.inference_mode, torch.enable_grad])
def mode(request):
    with request.param():
        yield


class Wrapped(Tensor):
    """A tensor around another one, which notes the ops on it."""

    seen: list[str]

    @staticmethod
    def __new__(cls, inner):
        return Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)

    def __init__(self, inner):
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        cls.seen.append(str(func))
        return func(*(a.inner if isinstance(a, cls) else a for a in args), **(kwargs or {}))


class Inside(TorchFunctionMode):
    """Enable gradients inside the op alone."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        with torch.set_grad_enabled(torch.is_grad_enabled() or "geglu" in str(func)):
            return func(*args, **(kwargs or {}))


def test_dispatch_modes_see_the_op(mode, x):
    wanted = op(x)
    with OpNames() as names:
        out = op(x)
    assert names.seen == [NAME]
    assert torch.equal(out, wanted)


def test_subclasses_see_the_op(mode, x):
    Wrapped.seen = []
    out = op(Wrapped(x))
    assert NAME in Wrapped.seen
    assert torch.equal(out, op(x))


def test_fakes_take_the_place_of_the_op(mode):
    with FakeTensorMode():
        out = group_norm_silu(torch.empty(2, 8, 3, 4), 2, torch.empty(8), torch.empty(8))
    assert out.shape == (2, 8, 3, 4)
    assert "FakeTensor" in type(out).__name__


@pytest.mark.parametrize("pre_dispatch", [False, True])
def test_traces_have_the_op(mode, x, pre_dispatch):
    graph = make_fx(op, pre_dispatch=pre_dispatch)(x).graph
    assert [str(node.target) for node in graph.nodes].count(NAME) == 1


def test_the_profiler_sees_the_op(mode, x):
    activities = [torch.profiler.ProfilerActivity.CPU]
    # torch 2.11 warns without the second
    with torch.profiler.profile(activities=activities, acc_events=True) as profile:
        op(x)
    assert "unianimate::geglu_native" in {event.key for event in profile.key_averages()}


def test_compiles_without_a_graph_break(mode, x):
    compiled = torch.compile(op, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), op(x))


def test_gradients_that_are_turned_on_inside_are_there(x):
    leaf = x.requires_grad_()
    with torch.no_grad(), Inside():
        out = op(leaf)
    assert out.requires_grad
    assert not torch.no_grad()(op)(leaf).requires_grad


def test_transforms_are_refused_rather_than_passed_over(x):
    # torch's own autograd of registered ops has no rule for them
    with torch.no_grad(), pytest.raises(RuntimeError, match="functorch transforms"):
        torch.func.grad(lambda x: op(x).sum())(x)


def test_there_is_no_second_derivative(x):
    leaf = x.requires_grad_()
    (grad,) = torch.autograd.grad(op(leaf).sum(), leaf, create_graph=True)
    with pytest.raises(RuntimeError, match="no autograd formula was registered"):
        grad.sum().backward()
