"""Weights that native ops have packed, kept from call to call."""

import threading

import gates
import pytest
import torch
from kept_ops import OPS, parameters, spatial_conv_inputs

from unianimate_kernels import _library, _packed, keep_packed_weights, spatial_conv


def test_kept_weights_are_read_and_change_no_bit(op, given):
    want = op(**given, backend="native")
    with keep_packed_weights():
        assert torch.equal(op(**given, backend="native"), want)
        ((memory, _),) = _packed.kept.entries.values()
        assert torch.equal(op(**given, backend="native"), want)
        # what was kept decides: a second call packs nothing
        memory.zero_()
        assert not torch.equal(op(**given, backend="native"), want)
        assert len(_packed.kept.entries) == 1
    assert not _packed.kept.entries
    assert torch.equal(op(**given, backend="native"), want)


def weights_of(value):
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from weights_of(item)
    elif isinstance(value, torch.nn.Parameter) and value.dim() > 1:
        yield value


def test_a_changed_weight_is_packed_again(op, given):
    with keep_packed_weights():
        op(**given, backend="native")
        for weight in weights_of(given):
            weight.mul_(-0.5)
            got = op(**given, backend="native")
            _packed.kept.clear()
            assert torch.equal(got, op(**given, backend="native"))


def test_only_parameters_are_kept(op, given):
    plain = gates.cast(OPS[op](), given["x"].dtype, frozenset())
    with keep_packed_weights():
        op(**plain, backend="native")
        assert not _packed.kept.entries
        with torch.inference_mode():
            op(**{k: v.clone() if k == "x" else v for k, v in given.items()}, backend="native")


def test_no_more_is_kept_than_there_is_room_for(op, given, monkeypatch):
    want = op(**given, backend="native")
    monkeypatch.setattr(_packed, "_MOST_BYTES", 100)
    with keep_packed_weights():
        assert torch.equal(op(**given, backend="native"), want)
        assert not _packed.kept.entries


def test_a_call_that_fails_leaves_nothing(op, given, monkeypatch):
    def fail(*_):
        raise RuntimeError("refused")

    with keep_packed_weights():
        with monkeypatch.context() as patch:
            patch.setattr(_library, "_function", lambda _: fail)
            with pytest.raises(RuntimeError, match="refused"):
                op(**given, backend="native")
        assert not _packed.kept.entries


@pytest.mark.skipif(_library.cpu_level != "avx512", reason="this CPU has one instruction set")
def test_instruction_sets_do_not_share(op, given, monkeypatch):
    with keep_packed_weights():
        op(**given, backend="native")
        monkeypatch.setattr(_library, "cpu_level", "avx2")
        got = op(**given, backend="native")
    assert torch.equal(got, op(**given, backend="native"))


def test_threads_and_inner_blocks():
    inputs = {
        name: value if name == "x" else parameters(value)
        for name, value in gates.cast(spatial_conv_inputs(), torch.float32, frozenset()).items()
    }
    seen = []

    def other():
        with torch.no_grad():
            spatial_conv(**inputs, backend="native")
        seen.append((_packed.kept.scopes, len(_packed.kept.entries)))

    with keep_packed_weights():
        with keep_packed_weights():
            spatial_conv(**inputs, backend="native")
        assert len(_packed.kept.entries) == 1
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert seen == [(0, 0)]
    assert not _packed.kept.entries and not _packed.kept.scopes
    with pytest.raises(KeyError), keep_packed_weights():
        raise KeyError
    assert not _packed.kept.scopes
