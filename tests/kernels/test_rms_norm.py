import gates
import pytest
import torch

from unianimate_kernels import BackendError, rms_norm


def make_inputs(*shape, added=True):
    generator = torch.Generator().manual_seed(0)

    def random(*sizes):
        return torch.randn(*sizes, generator=generator, dtype=torch.float64)

    inputs = {"x": random(*shape), "weight": random(shape[-1]), "eps": 1e-3}
    return {**inputs, "added": random(*shape)} if added else inputs


@pytest.mark.parametrize("added", [True, False])
def test_the_reference_is_the_equation(added):
    inputs = make_inputs(3, 5, 12, added=added)
    h = inputs["x"] + inputs.get("added", 0)
    want = inputs["weight"] * h / (h.square().mean(-1, keepdim=True) + 1e-3).sqrt()
    torch.testing.assert_close(rms_norm(**inputs, backend="reference"), want)


@pytest.mark.parametrize("added", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("shape", [(1,), (3, 34), (2, 17, 3, 640), (33, 2100)])
def test_native_meets_the_gate(shape, dtype, added):
    inputs = make_inputs(*shape, added=added)
    gates.check(rms_norm, inputs, backend="native", dtype=dtype, gradients=False)


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_strided_rows(backend):
    wide = torch.randn(2, 6, 30, generator=torch.Generator().manual_seed(1))
    x, added = wide[..., ::2]
    weight = torch.randn(30, generator=torch.Generator().manual_seed(2))[::2]
    got = rms_norm(x, weight, added=added, backend=backend)
    assert got.is_contiguous()
    dense = (x.contiguous(), weight.contiguous())
    assert torch.equal(got, rms_norm(*dense, added=added.contiguous(), backend=backend))


def test_the_native_one_is_for_inference():
    x, weight = torch.randn(2, 4), torch.randn(4, requires_grad=True)
    (grad,) = torch.autograd.grad(rms_norm(x, weight).sum(), weight)
    assert grad.shape == weight.shape
    with pytest.raises(BackendError, match="no gradient"):
        rms_norm(x, weight, backend="native")


def test_opcheck():
    x, added = torch.randn(2, 3, 10)
    for other in (added, None):
        given = (x, torch.randn(10), 1e-5, other)
        torch.library.opcheck(torch.ops.unianimate.rms_norm_native, given)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": torch.ones(3)}, r"weight must have shape \(4,\)"),
        ({"added": torch.ones(3, 4)}, r"added must have shape \(2, 4\)"),
        ({"added": torch.ones(2, 4, dtype=torch.float64)}, "give both the same"),
        ({"x": torch.tensor(1.0)}, "got a number"),
        ({"x": torch.ones(0, 4)}, "x has an empty axis"),
    ],
)
def test_refuses_what_does_not_fit(change, message):
    given = {"x": torch.ones(2, 4), "weight": torch.ones(4), **change}
    with pytest.raises((ValueError, TypeError), match=message):
        rms_norm(**given)


def test_triton_is_for_gpus():
    with pytest.raises(BackendError, match="cuda"):
        rms_norm(torch.ones(2, 4), torch.ones(4), backend="triton")
