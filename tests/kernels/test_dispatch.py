import os
import subprocess
import sys

import pytest
import torch

import unianimate_kernels
from unianimate_kernels import (
    BackendError,
    _dispatch,
    _library,
    available_backends,
    causal_conv1d,
    geglu,
    selective_scan,
    use_backend,
)
from unianimate_kernels.info import _example, backends, try_out


def chosen(op: str, x: torch.Tensor, backend: str | None = None) -> str:
    return _dispatch.choose(op, x, backend)


def in_process(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


def test_the_first_backend_that_serves_is_taken():
    assert chosen("geglu", torch.zeros(2)) == "native"
    assert chosen("geglu", torch.zeros(2, dtype=torch.float16)) == "reference"


def test_a_named_backend_never_falls_back():
    with pytest.raises(BackendError, match="it takes cuda tensors, got cpu"):
        geglu(torch.zeros(2, 4), backend="triton")
    with pytest.raises(BackendError, match="it takes bfloat16, float32, float64, got float16"):
        geglu(torch.zeros(2, 4, dtype=torch.float16), backend="native")
    with pytest.raises(BackendError, match="no backend 'cuda'; this op has native, triton"):
        geglu(torch.zeros(2, 4), backend="cuda")


def test_use_backend_binds_and_restores():
    x = torch.zeros(2)
    with use_backend("reference"):
        assert chosen("geglu", x) == "reference"
        with use_backend(geglu="native"):
            assert chosen("geglu", x) == "native"
            assert chosen("selective_scan", x) == "reference"
        assert chosen("geglu", x) == "reference"
    assert chosen("geglu", x) == "native"


def test_use_backend_restores_after_an_error():
    with pytest.raises(KeyError), use_backend("reference"):
        raise KeyError
    assert chosen("geglu", torch.zeros(2)) == "native"


def test_an_argument_is_stronger_than_a_binding():
    with use_backend("reference"):
        assert chosen("geglu", torch.zeros(2), "native") == "native"


def test_a_block_gives_back_only_what_it_bound():
    with use_backend(geglu="reference"):
        with use_backend(selective_scan="reference"):
            pass
        assert chosen("geglu", torch.zeros(2)) == "reference"
    # two threads, say
    one, other = use_backend(geglu="reference"), use_backend(selective_scan="reference")
    one.__enter__()
    other.__enter__()
    one.__exit__(None, None, None)
    other.__exit__(None, None, None)
    assert not _dispatch.bound()


def test_a_bound_backend_leaves_ops_without_it_alone():
    with use_backend("mamba_ssm"):
        assert chosen("geglu", torch.zeros(2)) == "native"
        with pytest.raises(BackendError, match="mamba_ssm"):
            chosen("selective_scan", torch.zeros(2))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            (["cudnn"], {}),
            "no op has a backend 'cudnn'; there are causal_conv1d, mamba_ssm",
        ),
        (([], {"geglu": "xformers"}), "geglu has no backend 'xformers'; it has native"),
        (([], {"attention": "native"}), "there is no op 'attention'; the ops are selective_scan"),
    ],
)
def test_a_wrong_name_is_refused(names, message):
    with pytest.raises(ValueError, match=message), use_backend(*names[0], **names[1]):
        pass


def test_peers_are_only_used_when_named():
    for op in _dispatch.ops():
        for name, backend in _dispatch.backends_of(op).items():
            assert backend.automatic == (name in ("native", "triton", "reference"))


def test_available_backends_gives_a_reason_and_a_cure():
    available = available_backends("selective_scan")
    assert available["reference"] is None
    assert "pip install mamba-ssm" in (available["mamba_ssm"] or "pip install mamba-ssm")
    if not torch.cuda.is_available():
        why = available["triton"]
        assert why == "torch sees no cuda device" or "pip install triton" in why
    with pytest.raises(ValueError, match="there is no op 'scan'"):
        available_backends("scan")


def test_a_gpu_without_code_of_its_own_is_told_what_helps(monkeypatch):
    monkeypatch.setattr(_library, "build_report", lambda: {"cuda_archs": ["80", "90"]})
    cure = _library._cure(b"no kernel image is available", torch.device("cuda:0"))
    assert "cuda:0" in cure and "built for sm_80, sm_90; reinstall" in cure
    assert _library._cure(b"out of memory", torch.device("cuda:0")) == ""


def test_the_environment_binds_the_process():
    code = (
        "import torch, unianimate_kernels as k\n"
        "from unianimate_kernels import _dispatch\n"
        "print(_dispatch.choose('geglu', torch.zeros(2), None))"
    )
    assert in_process(code, UNIANIMATE_BACKEND="reference").stdout.strip() == "reference"
    failed = in_process(code, UNIANIMATE_BACKEND="fast")
    assert "UNIANIMATE_BACKEND='fast': no op has such a backend" in failed.stderr


def test_every_backend_that_says_it_serves_works():
    for op, by_name in backends().items():
        for name in ("native", "reference"):
            assert by_name[name]["cpu"] is None, (op, name, by_name[name])


def test_trying_out_reports_a_wrong_result(monkeypatch):
    from unianimate_kernels.geglu import native

    monkeypatch.setattr(native, "forward", lambda x: torch.zeros(*x.shape[:-1], x.shape[-1] // 2))
    assert "its result is off by" in (try_out("geglu", "native", "cpu") or "")


def test_choosing_is_traceable_inside_a_binding():
    def scan(*tensors):
        with use_backend("reference"):
            return selective_scan(*tensors)

    x = torch.randn(1, 3, 2, 4)
    compiled = torch.compile(selective_scan, fullgraph=True, backend="aot_eager")
    arguments = (x, x, -torch.rand(4, 2), x[..., :2], x[..., :2])
    with use_backend("reference"):
        torch.testing.assert_close(compiled(*arguments), scan(*arguments))


def test_ops_give_the_shapes_of_meta_tensors():
    x = torch.empty(1, 3, 5, 8, device="meta")
    weight = torch.empty(8, 4, device="meta")
    y = causal_conv1d(x, weight, backend="reference")
    assert y.shape == x.shape
    assert y.device.type == "meta"


@pytest.mark.parametrize(
    ("op", "backend"),
    [
        (op, backend)
        for op in _dispatch.ops()
        for backend in ("native", "reference")
        if backend in _dispatch.backends_of(op)
    ],
)
def test_a_default_device_elsewhere_does_not_matter(op, backend):
    call, inputs = getattr(unianimate_kernels, op), _example(op, "cpu")
    with torch.no_grad():
        want = call(**inputs, backend=backend)
        with torch.device("meta"):
            got = call(**inputs, backend=backend)
    torch.testing.assert_close(got, want, rtol=0, atol=0)
