"""Confidence intervals: bootstrap over images, jackknife for distances between sets of images.

Percentile bootstrap: Efron & Tibshirani 1993, chapter 13. A resample of a set holds duplicates and
about 63 % of its images, which raises a Frechet distance: its bootstrap interval lies above the
estimate itself. The delete-a-group jackknife draws no duplicates.

scipy.stats.bootstrap is not used: it holds a batch of resamples at a time, takes columns of one
shape only, and gives NaN for an infinite statistic.

A row with a NaN in any column is left out and counted. A statistic of rows with infinite values
is infinite: an end of its interval is then finite if enough resamples miss those rows, and infinite
otherwise; no end is ever NaN.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.special


class Interval(NamedTuple):
    """A statistic and its interval; floats, or arrays [M] for M statistics.

    value: the statistic.
    low, high: ends of the interval; -inf and inf where the spread is unknown: with one row.
    num: rows that were used; for a jackknife, groups.
    num_left_out: rows with NaN.
    """

    value: Any
    low: Any
    high: Any
    num: int
    num_left_out: int = 0


class Comparison(NamedTuple):
    """A paired comparison of A with B.

    difference: mean of A - B.
    low, high: ends of its interval; the two differ if 0 lies outside.
    probability: share of resamples in which A's mean is the greater, equal ones counting half. It
        is close to 0 or 1 where the sign is settled; not a p value.
    num: pairs that were used.
    num_left_out: pairs with NaN.
    """

    difference: float
    low: float
    high: float
    probability: float
    num: int
    num_left_out: int


def bootstrap(
    fn: Callable[..., Any],
    columns: Sequence[np.ndarray],
    *,
    num_resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Percentile bootstrap of a statistic over rows.

    Args:
      fn: maps the columns, each [n, ...], to a float or an array [M].
      columns: arrays [N, ...]; their rows are resampled together.
      num_resamples: resamples drawn, one held at a time.
      seed: of the resamples, which are a function of (seed, N, num_resamples).
      level: share of resamples between the ends.

    Returns:
      An Interval whose ends are resampled values themselves, not interpolated. Resamples whose
      statistic is NaN are left out.

    Raises:
      ValueError: lengths differ, no row is left, or the statistic is NaN for all rows.
    """
    value, resampled, num, num_left_out = _resample(fn, columns, num_resamples, seed)
    low, high = _find_ends(resampled, num, level)
    return Interval(value, low, high, num, num_left_out)


def bootstrap_mean(values: np.ndarray, **options: Any) -> Interval:
    """Percentile bootstrap of the mean of [N], or of the M column means of [N, M].

    The options are those of `bootstrap`. The columns of [N, M] share their resamples.

    Raises:
      ValueError: no row is without NaN, or a column holds both inf and -inf.
    """
    return bootstrap(_mean, (np.asarray(values, np.float64),), **options)


def bootstrap_ratio(numerator: np.ndarray, denominator: np.ndarray, **options: Any) -> Interval:
    """Percentile bootstrap of mean(numerator) / mean(denominator), of paired [N] and [N].

    The options are those of `bootstrap`.

    Raises:
      ValueError: lengths differ, no row is without NaN, or both means are zero or infinite.
    """
    columns = tuple(np.asarray(column, np.float64) for column in (numerator, denominator))
    return bootstrap(lambda top, bottom: _mean(top) / _mean(bottom), columns, **options)


def compare_paired(
    a: np.ndarray,
    b: np.ndarray,
    num_resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Comparison:
    """Is A greater than B? Percentile bootstrap of the mean of A - B over paired [N] and [N].

    Equal values have the difference 0, and so have two infinities of the same sign.

    Raises:
      ValueError: lengths differ, no pair is without NaN, or A - B holds both inf and -inf.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError(f"scores {a.shape} and {b.shape} are no pairs")
    with np.errstate(invalid="ignore"):
        differences = np.where(a == b, 0.0, a - b)
    value, resampled, num, num_left_out = _resample(_mean, (differences,), num_resamples, seed)
    low, high = _find_ends(resampled, num, level)
    probability = float(np.mean((np.sign(resampled) + 1) / 2))
    return Comparison(value, low, high, probability, num, num_left_out)


def jackknife(value: float, replicates: np.ndarray, level: float = 0.95) -> Interval:
    """Interval of a statistic from its values without one of G groups each, float [G].

    Delete-a-group jackknife: value -+ t s with s^2 = (G - 1) / G sum_g (v_g - mean v)^2 and t the
    quantile of Student's distribution of G - 1 degrees of freedom, which for G = 20 is 7 % wider
    than the normal one's (Kott 2001). The bias of `value` is not corrected.

    With fewer than 2 replicates the ends are -inf and inf.

    Raises:
      ValueError: the value or a replicate is not finite.
    """
    replicates = np.asarray(replicates, np.float64)
    if not np.isfinite(value) or not np.isfinite(replicates).all():
        raise ValueError("a jackknife needs a finite score and finite replicates")
    num = len(replicates)
    if num < 2:
        return Interval(float(value), -np.inf, np.inf, num)
    error = np.sqrt((num - 1) * np.var(replicates))
    half = float(scipy.special.stdtrit(num - 1, (1 + level) / 2) * error)
    return Interval(float(value), float(value) - half, float(value) + half, num)


def jackknife_groups(
    fn: Callable[..., float],
    columns: Sequence[np.ndarray],
    num_groups: int = 20,
    level: float = 0.95,
) -> Interval:
    """`jackknife` of fn(*columns), each [N, ...], by leaving out every G-th row in turn.

    Args:
      fn: maps the columns, each [n, ...], to a float.
      columns: arrays [N, ...]; row i of all is of group i mod G.
      num_groups: G, at most N.
      level: of the interval.

    Raises:
      ValueError: lengths differ, or a statistic is not finite.
    """
    columns = _check(columns)
    group = np.arange(len(columns[0])) % num_groups
    num_groups = min(num_groups, len(group))
    replicates = [fn(*(column[group != g] for column in columns)) for g in range(num_groups)]
    return jackknife(fn(*columns), np.array(replicates), level)


def spread_over_noises(values: np.ndarray) -> float:
    """Standard deviation (ddof 1) of the K column means of values [N, K], one per image and noise.

    Raises:
      ValueError: `values` is not [N, K] with K >= 2 and all finite.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 2 or values.shape[1] < 2 or not np.isfinite(values).all():
        raise ValueError(f"a spread over noises needs finite [N, K >= 2], not {values.shape}")
    return float(np.std(values.mean(axis=0), ddof=1))


def _resample(
    fn: Callable[..., Any], columns: Sequence[np.ndarray], num_resamples: int, seed: int
) -> tuple[Any, np.ndarray, int, int]:
    """(statistic, resampled values [B, ...], rows used, rows left out)."""
    columns = _check(columns)
    flat = (column.reshape(len(column), -1) for column in columns)
    is_known = ~np.any([np.isnan(rows).any(axis=1) for rows in flat], axis=0)
    known = [column[is_known] for column in columns]
    num = int(is_known.sum())
    if not num:
        raise ValueError("no row is without NaN")
    rng = np.random.default_rng(seed)
    # inf - inf and x / 0 are detected in the result.
    with np.errstate(invalid="ignore", divide="ignore"):
        value = _plain(fn(*known))
        if np.isnan(value).any():
            raise ValueError("the score is not defined (NaN) for these rows")
        resampled = []
        for _ in range(num_resamples):
            rows = rng.integers(num, size=num)
            resampled.append(fn(*(column[rows] for column in known)))
    resampled = np.asarray(resampled, np.float64)
    is_defined = ~np.isnan(resampled.reshape(num_resamples, -1)).any(axis=1)
    return value, resampled[is_defined], num, len(is_known) - num


def _find_ends(resampled: np.ndarray, num: int, level: float) -> tuple[Any, Any]:
    shape = resampled.shape[1:]
    if num < 2 or not len(resampled):
        return _plain(np.full(shape, -np.inf)), _plain(np.full(shape, np.inf))
    # Do not interpolate: between two infinities that gives NaN.
    low = np.quantile(resampled, (1 - level) / 2, axis=0, method="lower")
    high = np.quantile(resampled, (1 + level) / 2, axis=0, method="higher")
    return _plain(low), _plain(high)


def _check(columns: Sequence[np.ndarray]) -> list[np.ndarray]:
    columns = [np.asarray(column) for column in columns]
    lengths = {len(column) for column in columns}
    if len(lengths) != 1:
        raise ValueError(f"columns have different numbers of rows: {sorted(lengths)}")
    return columns


def _mean(values: np.ndarray) -> Any:
    return values.mean(axis=0)


def _plain(score: Any) -> Any:
    """Converts a scalar to a float, an array to float64."""
    return float(score) if np.ndim(score) == 0 else np.asarray(score, np.float64)
