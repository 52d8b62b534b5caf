"""The Frechet distance between two sets of features, FID-VID's and FVD's last step."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def frechet_distance(one: Array, other: Array) -> float:
    """Return the squared Frechet (2-Wasserstein) distance of the Gaussians that fit two sets.

        |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))

    with sample covariances (divided by n - 1; zero for a single row). With S1 = A'A and S2 = B'B
    the last trace is the sum of the singular values of A B': exact also for singular covariances
    (fewer rows than features), where a matrix square root needs its diagonal lifted and leaves
    imaginary parts.

    Args:
        one: features (n, D).
        other: features (m, D).

    Raises:
        ValueError: other shapes, no rows, or values that are not finite.
    """
    one, other = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    if one.ndim != 2 or other.ndim != 2 or one.shape[1] != other.shape[1]:
        raise ValueError(
            f"frechet_distance: features are (n, D) and (m, D), got {one.shape} and {other.shape}"
        )
    if not (len(one) and len(other) and np.isfinite(one).all() and np.isfinite(other).all()):
        raise ValueError("frechet_distance: features must be finite, at least one row in each set")
    a, b = _root(one), _root(other)
    means = np.square(one.mean(axis=0) - other.mean(axis=0)).sum()
    traces = np.square(a).sum() + np.square(b).sum()
    return float(means + traces - 2 * np.linalg.svd(a @ b.T, compute_uv=False).sum())


def _root(features: Array) -> Array:
    """Return A with at most D rows and A'A the covariance."""
    rows, columns = features.shape
    deviations = (features - features.mean(axis=0)) / np.sqrt(max(rows - 1, 1))
    return deviations if rows <= columns else np.asarray(np.linalg.qr(deviations, mode="r"))
