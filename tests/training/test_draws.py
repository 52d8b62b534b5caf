"""What is drawn for an example depends on the seed and its number alone."""

import pytest
import torch
from tiny_run import tiny

from unianimate.training.diffusion import Draws
from unianimate.training.draws import generator_of, seed_of

SIZE = torch.Size([1, 2, 3, 4, 4])


def drawn(numbers, **settings):
    """Return everything that is drawn for examples, one row each."""
    config = tiny(batch_size=8, **settings)
    draws = Draws(numbers, config)
    shape = torch.Size([len(numbers), *SIZE[1:]])
    noise = draws.noise(shape, 0.1)
    return [
        noise.flatten(1),
        draws.timesteps(1000, 2.0),
        draws.disturb(torch.full((len(numbers), 3, 4, 4), 0.5), 0.2).flatten(1),
        *draws.kept(config.diffusion),
    ]


@pytest.mark.parametrize("groups", [[[0, 4], [1, 5], [2, 6], [3, 7]], [[0, 1, 2, 3], [4, 5, 6, 7]]])
def test_draws_do_not_depend_on_how_a_batch_is_split(groups):
    numbers = list(range(16, 24))
    at_once = drawn(numbers)
    for group in groups:
        for rows, whole in zip(drawn([numbers[i] for i in group]), at_once, strict=True):
            assert torch.equal(rows, whole[group])


def test_draws_differ_by_seed_and_step():
    first = drawn(range(8))
    for other in (drawn(range(8, 16)), drawn(range(8), seed=1)):
        assert not torch.equal(first[0], other[0])
        assert not torch.equal(first[1], other[1])


def test_timesteps_are_spread_evenly_over_a_step():
    for step in range(5):
        t = Draws(range(8 * step, 8 * step + 8), tiny(batch_size=8)).timesteps(1000)
        assert t.dtype == torch.int64
        assert sorted(int(x) // 125 for x in t) == list(range(8))


def test_shifted_timesteps_are_noisier():
    def share(shift, part):
        steps = (range(8 * s, 8 * s + 8) for s in range(100))
        t = torch.cat([Draws(s, tiny(batch_size=8)).timesteps(1000, shift) for s in steps])
        assert t.min() >= 0 and t.max() <= 999
        return (t >= part).float().mean().item()

    assert share(1.0, 500) == pytest.approx(0.5, abs=0.01)
    # 3 u / (1 + 2 u) > 0.5 for u > 0.25
    assert share(3.0, 500) == pytest.approx(0.75, abs=0.01)


def test_conditions_are_dropped_in_the_wanted_shares():
    def shares(**options):
        settings = {f"diffusion__{name}": value for name, value in options.items()}
        config = tiny(batch_size=20, **settings)
        steps = (range(20 * s, 20 * s + 20) for s in range(100))
        kept = [Draws(s, config).kept(config.diffusion) for s in steps]
        return {
            name: torch.cat([getattr(k, name) for k in kept]).mean().item()
            for name in kept[0]._fields
        }

    one = shares(drop=0.5, drop_all=0.1, keep_all=0.1, first_frame=0.4)
    # half of all are dropped, but only among the 80 % that are free to lose something
    assert one["pose"] == pytest.approx(0.4, abs=0.03)
    assert one["image"] == pytest.approx(0.4, abs=0.03)
    assert one["first_frame"] == pytest.approx(0.4 * 0.4, abs=0.03)
    assert one["reference"] == 1.0
    none = shares(drop=0.0, drop_all=0.25, keep_all=0.0, first_frame=1.0, drop_reference=True)
    assert none["pose"] == none["image"] == none["first_frame"] == none["reference"]
    assert none["pose"] == pytest.approx(0.75, abs=0.03)


def test_a_seed_is_a_function_of_its_whole_key():
    keys = [(0,), (1,), (0, 1), (1, 1), (0, 1, 2), (0, 2, 1), (2**40, 1)]
    assert len({seed_of(*key) for key in keys}) == len(keys)
    assert torch.equal(*(torch.rand(3, generator=generator_of(3, 5)) for _ in range(2)))


def test_the_first_frame_is_disturbed_by_at_most_its_strength():
    clear = torch.full((8, 3, 16, 16), 0.5)
    draws = Draws(range(8), tiny(batch_size=8))
    assert draws.disturb(clear, 0.0) is clear
    noisy = draws.disturb(clear, 0.02)
    amounts = (noisy - clear).flatten(2).std(2).mean(1)
    assert amounts.max() < 0.025
    assert amounts.unique().numel() == 8
