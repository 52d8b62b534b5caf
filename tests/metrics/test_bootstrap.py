import numpy as np
import pytest

from unianimate.metrics import bootstrap_interval, bootstrap_mean, frechet_distance


def test_the_interval_of_a_mean_has_the_width_that_theory_gives():
    values = np.random.default_rng(0).normal(5, 2, 400)
    mean, (low, high) = bootstrap_mean(values, samples=4000)
    error = values.std() / np.sqrt(len(values))
    assert mean == pytest.approx(values.mean())
    assert low == pytest.approx(mean - 1.96 * error, abs=0.1 * error)
    assert high == pytest.approx(mean + 1.96 * error, abs=0.1 * error)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    random = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        _, (low, high) = bootstrap_mean(random.normal(0, 1, 60), level=0.9, samples=300)
        covered += low <= 0 <= high
    # 0.9 with a standard error of 0.021, and the bootstrap's own bias
    assert 0.82 <= covered / 200 <= 0.96


def test_weights_are_frames():
    mean, interval = bootstrap_mean([1.0, 4.0], [3, 1])
    assert mean == 1.75
    assert interval == (1.0, 4.0)


def test_a_seed_repeats_and_one_video_has_no_interval():
    values = np.arange(9.0)
    assert bootstrap_mean(values, seed=3) == bootstrap_mean(values, seed=3)
    assert bootstrap_mean(values, seed=3) != bootstrap_mean(values, seed=4)
    assert bootstrap_mean([2.0]) == (2.0, None)


def test_any_statistic_of_drawn_videos():
    values = np.array([0.0, 1.0])
    low, high = bootstrap_interval(lambda drawn: values[drawn].max(), 2)
    assert (low, high) == (0.0, 1.0)


def test_a_distance_lies_within_its_centred_interval():
    features = np.random.default_rng(0).normal(size=(2, 10, 50))

    def distance(drawn):
        return frechet_distance(*features[:, drawn])

    low, _ = bootstrap_interval(distance, 10, samples=200)
    centred = bootstrap_interval(distance, 10, samples=200, centred=True)
    assert centred[0] < distance(np.arange(10)) < centred[1] and distance(np.arange(10)) < low


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: bootstrap_mean([]), "at least 1"),
        (lambda: bootstrap_mean([1.0], [0]), "positive"),
        (lambda: bootstrap_mean([1.0, 2.0], level=1), "level must be within"),
        (lambda: bootstrap_mean([1.0, 2.0], samples=0), "samples must be 1 or more"),
        (lambda: bootstrap_mean([1.0], level=95), "level must be within"),
    ],
)
def test_bad_arguments_are_refused(call, says):
    with pytest.raises(ValueError, match=says):
        call()
