"""Calls with kept weights, made again without what the first has checked."""

import gates
import pytest
import torch
from dispatch_counters import OpNames
from kept_ops import INPUTS, OPS, given_parameters

from unianimate_kernels import (
    BackendError,
    _packed,
    _repeated,
    keep_packed_weights,
    spatial_conv,
    use_backend,
)


@pytest.fixture
def made(monkeypatch):
    """Count the calls that are made again."""
    calls = []

    def make(self, inputs):
        calls.append(self.made.entry)
        return call(self, inputs)

    call = _repeated._Repeatable.call
    monkeypatch.setattr(_repeated._Repeatable, "call", make)
    return calls


def changed(given):
    """Return other values for the same memory layout."""
    return {
        k: v.flip(0).mul(0.7) if k in INPUTS and torch.is_tensor(v) else v for k, v in given.items()
    }


def test_a_call_made_again_is_the_call(op, given, made):
    others = changed(given)
    want, want_others = (op(**inputs, backend="native") for inputs in (given, others))
    with keep_packed_weights():
        for inputs, result in ((given, want), (others, want_others), (given, want)):
            got = op(**inputs, backend="native")
            assert torch.equal(got, result)
            assert got.stride() == result.stride()
        assert len(made) == 2
    assert not _packed.kept.calls


def test_other_shapes_and_numbers_are_other_calls(op, given, made):
    with keep_packed_weights():
        op(**given, backend="native")
        for change in (
            {"x": given["x"][..., :2]},
            {"x": given["x"].transpose(-1, -2)},
            {"eps": 0.3} if op is not spatial_conv else {"bias": None},
        ):
            inputs = {**given, **change}
            got = op(**inputs, backend="native")
            assert not made
            _packed.kept.clear()
            assert torch.equal(got, op(**inputs, backend="native"))


def test_a_copied_input_is_copied_every_time(op, given, made):
    given["x"] = given["x"].contiguous()  # channels first
    want = op(**given, backend="native")
    with keep_packed_weights():
        for _ in range(2):
            assert torch.equal(op(**given, backend="native"), want)
    assert not made


def test_a_changed_or_another_weight_is_seen(op, given, made):
    with keep_packed_weights():
        op(**given, backend="native")
        for name, value in given.items():
            weights = [value] if torch.is_tensor(value) else value
            if name in INPUTS or not isinstance(weights, list):
                continue
            while isinstance(weights[0], list):
                weights = weights[0]
            weights[-1].mul_(-0.5)
            got = op(**given, backend="native")
            _packed.kept.clear()
            assert torch.equal(got, op(**given, backend="native"))
        again = given_parameters(op, given["x"].dtype)
        op(**again, backend="native")
    assert not made


def test_the_backend_in_force_decides(op, given, made):
    with keep_packed_weights():
        op(**given, backend="native")
        with use_backend("reference"):
            op(**given)
        assert not made
        with use_backend("native"):
            op(**given)
            op(**given)
        assert len(made) == 1
        with torch.enable_grad(), pytest.raises(BackendError, match="no gradient"):
            op(**{**given, "x": given["x"].requires_grad_()}, backend="native")


def test_the_number_of_threads_and_the_dtype_decide(op, given, made):
    threads = torch.get_num_threads()
    with keep_packed_weights():
        want = op(**given, backend="native")
        try:
            torch.set_num_threads(threads + 1)
            assert torch.equal(op(**given, backend="native"), want)
        finally:
            torch.set_num_threads(threads)
        assert not made
        with pytest.raises(TypeError):
            op(**{**given, "x": given["x"].double()}, backend="native")


def test_what_watches_torch_sees_the_op(op, given, made):
    name = f"unianimate.{op.__name__}_native.default"
    with keep_packed_weights():
        for _ in range(2):
            op(**given, backend="native")
        with OpNames() as names:
            op(**given, backend="native")
        with torch.profiler.profile(acc_events=True) as profile:
            op(**given, backend="native")
    assert name in names.seen
    assert f"unianimate::{op.__name__}_native" in {event.key for event in profile.key_averages()}
    assert len(made) == 1


def test_weights_that_are_inputs_are_not_mixed_up(op, given, made):
    want = op(**given, backend="native")
    given["x"] = torch.nn.Parameter(given["x"], requires_grad=False)
    with keep_packed_weights():
        for _ in range(2):
            assert torch.equal(op(**given, backend="native"), want)
    assert not made


def test_a_default_device_elsewhere_does_not_matter(op, given):
    want = op(**given, backend="native")
    with torch.device("meta"), keep_packed_weights():
        for _ in range(2):
            assert torch.equal(op(**given, backend="native"), want)


def test_no_room_no_call(op, given, made, monkeypatch):
    want = op(**given, backend="native")
    monkeypatch.setattr(_packed, "_MOST_BYTES", 100)
    with keep_packed_weights():
        for _ in range(2):
            assert torch.equal(op(**given, backend="native"), want)
    assert not made and not _packed.kept.calls


def test_autocast_makes_no_calls_again(op, made):
    given = given_parameters(op, torch.float32)
    with keep_packed_weights(), torch.autocast("cpu", dtype=torch.bfloat16):
        first, second = op(**given), op(**given)
    assert first.dtype == torch.bfloat16
    assert torch.equal(first, second)
    assert not made


def test_gates_hold_for_a_call_made_again(op, given, made):
    exact = gates.cast(OPS[op](), torch.float64, frozenset())
    want = op(**exact, backend="reference")
    with keep_packed_weights():
        op(**given, backend="native")
        got = op(**given, backend="native")
    assert len(made) == 1
    assert (got - want).abs().max() < 0.06 * want.abs().max()
