import numpy as np
import pytest
from scipy.linalg import sqrtm

from unianimate.metrics import frechet_distance


def gaussian(mean, deviations):
    """2 D rows whose sample mean and covariance are exactly these."""
    size = len(deviations)
    axes = np.diag(deviations) * np.sqrt((2 * size - 1) / 2)
    return np.array(mean) + np.concatenate([axes, -axes])


def test_the_closed_form_for_independent_features():
    one = gaussian([0.0, 1.0, 2.0], [1.0, 2.0, 3.0])
    other = gaussian([1.0, 1.0, 0.0], [2.0, 2.0, 0.5])
    np.testing.assert_allclose(np.cov(one, rowvar=False), np.diag([1, 4, 9]), atol=1e-12)
    # |m1 - m2|^2 + sum (s1 - s2)^2
    assert frechet_distance(one, other) == pytest.approx(5 + 1 + 0 + 6.25)


def test_the_closed_form_for_one_feature():
    random = np.random.default_rng(0)
    one, other = random.normal(3, 2, (50, 1)), random.normal(1, 5, (70, 1))
    expected = (one.mean() - other.mean()) ** 2 + (one.std(ddof=1) - other.std(ddof=1)) ** 2
    assert frechet_distance(one, other) == pytest.approx(expected)


@pytest.mark.parametrize("rows", [(40, 60), (5, 60), (6, 7)])
def test_the_matrix_root_of_scipy_agrees(rows):
    random = np.random.default_rng(1)
    mixing = random.normal(size=(8, 8))
    one, other = random.normal(size=(rows[0], 8)) @ mixing, random.normal(1, 2, (rows[1], 8))
    s1, s2 = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    means = np.square(one.mean(0) - other.mean(0)).sum()
    expected = means + np.trace(s1 + s2 - 2 * sqrtm(s1 @ s2).real)
    # singular covariances cost scipy's root half of its digits
    assert frechet_distance(one, other) == pytest.approx(expected, rel=1e-5)


def test_a_set_is_at_no_distance_from_itself_and_a_shift_is_its_square():
    features = np.random.default_rng(2).normal(size=(30, 50))
    assert frechet_distance(features, features) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(features, features + 2) == pytest.approx(4 * 50)


def test_single_rows_have_no_covariance():
    assert frechet_distance(np.zeros((1, 3)), np.full((1, 3), 2.0)) == pytest.approx(12)


@pytest.mark.parametrize(
    ("one", "says"),
    [
        (np.zeros((4, 3)), "features are"),
        (np.zeros(2), "features are"),
        (np.zeros((0, 2)), "at least one row"),
        (np.full((2, 2), np.nan), "finite"),
    ],
)
def test_bad_features_are_refused(one, says):
    with pytest.raises(ValueError, match=says):
        frechet_distance(one, np.zeros((5, 2)))
