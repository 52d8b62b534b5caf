import pytest

from unianimate.training.config import OptimizerConfig
from unianimate.training.schedule import rate_at

CONFIG = OptimizerConfig(warmup=4, decay=5, final=0.2)


def test_the_rate_goes_up_stays_and_comes_down():
    rates = [rate_at(step, 12, CONFIG) for step in range(12)]
    up, plateau, down = [0.25, 0.5, 0.75, 1], [1, 1, 1], [0.84, 0.68, 0.52, 0.36, 0.2]
    assert rates == pytest.approx(up + plateau + down)


def test_the_start_does_not_depend_on_the_length():
    assert [rate_at(s, 12, CONFIG) for s in range(7)] == [rate_at(s, 99, CONFIG) for s in range(7)]


def test_without_warm_up_and_decay_the_rate_is_constant():
    constant = OptimizerConfig(warmup=0, decay=0)
    assert {rate_at(step, 3, constant) for step in range(3)} == {1.0}


def test_a_run_shorter_than_warm_up_and_decay_takes_the_lower_of_both():
    rates = [rate_at(step, 3, CONFIG) for step in range(3)]
    assert rates == pytest.approx([0.25, 0.36, 0.2])
