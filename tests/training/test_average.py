import pytest
import torch
from torch import nn

from unianimate.training.average import WeightAverage


def test_the_average_forgets_faster_while_it_is_young():
    weight = nn.Parameter(torch.tensor([1.0]))
    average, wanted = WeightAverage([("w", weight)], 0.6), 1.0
    for step in range(20):
        with torch.no_grad():
            weight.fill_(float(step))
        average.update(step)
        decay = min(0.6, (1 + step) / (10 + step))
        wanted = decay * wanted + (1 - decay) * step
    assert average.averages["w"].item() == pytest.approx(wanted)


def test_averages_take_the_place_of_weights_for_a_while_even_if_something_fails():
    weight = nn.Parameter(torch.tensor([4.0]))
    average = WeightAverage([("w", weight)], 0.9)
    with torch.no_grad():
        weight.fill_(8.0)
    with pytest.raises(RuntimeError), average.applied():
        assert weight.item() == 4.0
        raise RuntimeError
    assert weight.item() == 8.0
    average.apply()
    assert weight.item() == 4.0


def test_averages_of_half_precision_are_float32():
    weight = nn.Parameter(torch.ones(1, dtype=torch.bfloat16))
    average = WeightAverage([("w", weight)], 0.999)
    with torch.no_grad():
        weight.fill_(2.0)
    for step in range(100, 110):
        average.update(step)
    assert average.averages["w"].dtype == torch.float32
    assert 1.0 < average.averages["w"].item() < 2.0
    average.load({"w": torch.tensor([3.0])})
    average.apply()
    assert weight.item() == 3.0
