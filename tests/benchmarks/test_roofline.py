import pytest
import torch

from benchmarks.bench_group_norm_silu import OP as GROUP_NORM
from benchmarks.bench_ssd_scan import OP as SSD
from benchmarks.bench_temporal_attention import OP as ATTENTION
from benchmarks.machine import folder_name, measure_limits
from benchmarks.ops import Shape, agree, unet_shapes
from benchmarks.roofline import Limits, Work
from benchmarks.scans import scan_work

LIMITS = Limits(copy=((100, 50.0), (1000, 10.0)), matmul={"float32": 4.0, "half": 40.0}, exps=2.0)


@pytest.mark.parametrize(
    ("work", "seconds", "by"),
    [
        (Work(100), 2.0, "bytes"),  # fits the cache
        (Work(101), 10.1, "bytes"),
        (Work(5000), 500.0, "bytes"),  # beyond the largest copy
        (Work(100, flops=40), 10.0, "flops"),
        (Work(100, flops=40, arithmetic="half"), 2.0, "bytes"),
        (Work(100, flops=40, arithmetic="unknown"), 10.0, "flops"),
        (Work(100, flops=4, exps=6), 3.0, "exps"),
    ],
)
def test_the_slowest_resource_bounds_the_work(work, seconds, by):
    bound = LIMITS.bound(work)
    assert bound.seconds == pytest.approx(seconds)
    assert bound.by == by


def test_work_of_the_ops_by_hand():
    shape = Shape(3, 2, 2, 128)
    numbers = 3 * 4 * 128
    scan = scan_work(shape, 4, False)
    assert scan.bytes == 4 * (4 * numbers + 2 * 16 * 12)  # x, dt, z, y; B and C
    assert scan.exps == numbers * (16 + 3)  # decays; softplus is two, the gate one
    assert scan_work(shape, 4, False, geometric=True).exps == numbers * 4
    assert scan_work(shape, 4, False, directions=2).exps == numbers * (2 * 18 + 1)
    attention = ATTENTION.work(shape, 2, False)
    assert attention.bytes == 2 * 4 * numbers
    assert attention.flops == 2 * 2 * numbers * 3
    assert attention.exps == 12 * 2 * 3  # rows, heads, keys
    assert GROUP_NORM.work(shape, 4, False).bytes == 12 * numbers
    # 3 frames: attending to the frames before costs less than carrying the state
    assert SSD.work(shape, 4, False).flops == 12 * 2 * 3 * (64 / 2 + 64)


def test_the_unets_shapes():
    shapes = unet_shapes()
    assert len(shapes) == 40
    assert Shape(17, 96, 64, 320) in shapes and Shape(257, 19, 12, 1280) in shapes


def test_the_better_of_two_measurements_counts():
    again = Limits(copy=((100, 40.0), (1000, 11.0)), matmul={"float32": 5.0, "half": 39.0}, exps=3)
    best = Limits(copy=((100, 50.0), (1000, 11.0)), matmul={"float32": 5.0, "half": 40.0}, exps=3)
    assert LIMITS.better(again) == again.better(LIMITS) == best


def test_limits_are_measured():
    limits = measure_limits(torch.device("cpu"), smoke=True)
    assert all(rate > 0 for _, rate in limits.copy)
    assert limits.matmul["float32"] > 0 and limits.exps > 0


def test_the_folder_says_what_the_figures_depend_on():
    machine = {"device": "ACME  CPU(R) 9", "type": "cpu", "threads": 2, "instructions": "AVX2"}
    assert folder_name(machine) == "acme-cpu-r-9-2-threads-avx2"
    assert folder_name({"device": "NVIDIA H200", "type": "cuda"}) == "nvidia-h200"


def test_a_wrong_result_is_not_timed():
    want = torch.tensor([1.0, 2.0])
    agree(want + 1e-4, want, "close")
    with pytest.raises(AssertionError, match="far: off by"):
        agree(want + 1e-1, want, "far")
