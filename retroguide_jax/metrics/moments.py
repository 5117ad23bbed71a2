"""Mean and covariance of features, in float64 on the host, in parts that can be merged."""

from typing import NamedTuple

import numpy as np

from retroguide_jax.errors import UserError

_CHUNK_ROWS = 4096  # converted to float64 at a time


class Moments(NamedTuple):
    """Mean and scatter of N rows of D features.

    num: N.
    mean: float64 [D].
    scatter: float64 [D, D], sum over rows of (x - mean) (x - mean)^T.
    """

    num: int
    mean: np.ndarray
    scatter: np.ndarray

    @property
    def covariance(self) -> np.ndarray:
        """float64 [D, D], unbiased: scatter / (N - 1), as in all FID code."""
        return self.scatter / (self.num - 1)


def compute_moments(features: np.ndarray) -> Moments:
    """Moments of features [N, D], any float type, in two passes over chunks in float64.

    Raises:
      UserError: there is no row, or one is not finite.
      ValueError: `features` is not [N, D].
    """
    features = check_features(features)
    chunks = (features[i : i + _CHUNK_ROWS] for i in range(0, len(features), _CHUNK_ROWS))
    total = _compute_chunk(next(chunks))
    for chunk in chunks:
        total = merge(total, _compute_chunk(chunk))
    return total


def merge(a: Moments, b: Moments) -> Moments:
    """Moments of the rows of both (Chan, Golub & LeVeque 1983, updating formulae)."""
    num = a.num + b.num
    delta = b.mean - a.mean
    mean = a.mean + delta * (b.num / num)
    scatter = a.scatter + b.scatter + np.outer(delta, delta * (a.num * b.num / num))
    return Moments(num, mean, scatter)


def remove(whole: Moments, part: Moments) -> Moments:
    """Moments of the rows of `whole` that are not in `part`: the inverse of `merge`."""
    num = whole.num - part.num
    mean = whole.mean + (whole.mean - part.mean) * (part.num / num)
    delta = part.mean - mean
    scatter = whole.scatter - part.scatter - np.outer(delta, delta * (num * part.num / whole.num))
    return Moments(num, mean, scatter)


def check_features(features: np.ndarray) -> np.ndarray:
    """Checks features and returns them unchanged, [N, D].

    Raises:
      UserError: there is no row, or one is not finite.
      ValueError: they are not [N, D].
    """
    features = np.asarray(features)
    if features.ndim != 2:
        raise ValueError(f"features {features.shape} must be [N, D]")
    num_bad = int(np.sum(~np.isfinite(features).all(axis=1)))
    if num_bad or not len(features):
        wrong = f"{num_bad} of {len(features)} rows of features are not finite"
        raise UserError(f"{wrong if num_bad else 'there are no features'}; check the images")
    return features


def _compute_chunk(features: np.ndarray) -> Moments:
    rows = np.array(features, np.float64)
    mean = rows.mean(axis=0)
    rows -= mean
    return Moments(len(rows), mean, rows.T @ rows)
