"""Distances between two sets of images, in float64 on the host, on outputs of a frozen network.

All are deterministic: only the shuffle of the Inception Score is random, from its own seed.
For intervals, row i of `real` and row i of `generated` are one pair.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.special
from scipy.linalg import lapack

from retroguide_jax.errors import UserError
from retroguide_jax.metrics.moments import Moments, check_features, compute_moments, remove

_KERNEL_ENTRIES = 2**23  # entries of the kernel matrix held at a time, 64 MiB
_NUM_GROUPS = 20  # of images, left out in turn
_TOP_K_FLOOR = 1e-9


def frechet_distance(real: Moments, generated: Moments) -> float:
    """Frechet distance of two Gaussians, >= 0: |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)).

    Heusel et al. 2017 (FID, when the features are Inception's). S1 S2 has the eigenvalues of the
    symmetric R1 S2 R1^T, S1 = R1^T R1, so that the trace of its root is a sum of real roots; R1 is
    a pivoted Cholesky factor with as many rows as the rank of S1. Sets of fewer images than
    features therefore need neither the multiple of the identity that pytorch-fid adds nor complex
    numbers.

    The distance is biased upwards by about 1 / N: compare sets of the same size only.

    Raises:
      UserError: a set has fewer than 2 images.
      ValueError: they have different features.
    """
    _check_sets((real.mean, generated.mean), real.num, generated.num)
    difference = real.mean - generated.mean
    traces = sum(np.trace(side.scatter) / (side.num - 1) for side in (real, generated))
    # Zero eigenvalues are computed as noise, whose roots are not small: the factor of the lower
    # rank, outside, has none of them.
    outer, inner = sorted((real, generated), key=lambda side: side.num)
    distance = difference @ difference + traces - 2 * _trace_of_root(outer, inner)
    return max(float(distance), 0.0)


def frechet_between(real: np.ndarray, generated: np.ndarray) -> float:
    """`frechet_distance` of rows [N, D] and [M, D], over images or features, whichever are fewer.

    With A and B the centred rows, divided by the root of their number minus one, S1 = A^T A and
    S2 = B^T B: the trace of the root of S1 S2 is the sum of the singular values of A B^T, which is
    N x M. For 512 images and 3,072 features that takes a twentieth of the time.

    Raises:
      UserError: a set has fewer than 2 images, or features are not finite.
      ValueError: they have different features.
    """
    if max(len(real), len(generated)) > real.shape[1]:
        return frechet_distance(compute_moments(real), compute_moments(generated))
    means, sides = [], []
    for rows in (real, generated):
        rows = np.asarray(check_features(rows), np.float64)
        means.append(rows.mean(axis=0))
        sides.append((rows - means[-1]) / np.sqrt(max(len(rows) - 1, 1)))
    _check_sets(means, len(real), len(generated))
    difference = means[0] - means[1]
    traces = sum(np.sum(side**2) for side in sides)
    singular = np.linalg.svd(sides[0] @ sides[1].T, compute_uv=False)
    return max(float(difference @ difference + traces - 2 * singular.sum()), 0.0)


def _check_sets(means: Sequence[np.ndarray], num_real: int, num_generated: int) -> None:
    if means[0].shape != means[1].shape:
        raise ValueError(f"features {means[0].shape} and {means[1].shape} differ")
    if min(num_real, num_generated) < 2:
        raise UserError(
            f"a distance between sets of {num_real} and {num_generated} images is not defined; "
            "give at least 2 of each"
        )


def frechet_replicates(
    real: np.ndarray, generated: np.ndarray, num_groups: int = _NUM_GROUPS
) -> np.ndarray:
    """Frechet distances, each without one group of pairs, float64 [G], for `statistics.jackknife`.

    Args:
      real, generated: [N, D] features; row i of both is pair i, of group i mod G.
      num_groups: G >= 3, reduced to N where it is larger; for N < 3 there are no replicates.

    With more images than features, the moments without a group are those of all rows minus those
    of the group, so that the rows are read twice, not G times. The interval is conservative where N
    is not far above D: 1.15 times as wide as it should be in a simulation with N = 6 D, 1.7 times
    with N = 0.6 D.

    Raises:
      UserError: features are not finite.
      ValueError: the sets have different numbers of rows or features.
    """
    if len(real) != len(generated):
        raise ValueError(f"{len(real)} real and {len(generated)} generated rows are no pairs")
    if len(real) < 3:
        return np.empty(0)
    num_groups = min(num_groups, len(real))
    if len(real) <= real.shape[1]:
        kept = (np.arange(len(real)) % num_groups != group for group in range(num_groups))
        return np.array([frechet_between(real[rows], generated[rows]) for rows in kept])
    whole = compute_moments(real), compute_moments(generated)
    replicates = []
    for group in range(num_groups):
        parts = (compute_moments(rows[group::num_groups]) for rows in (real, generated))
        replicates.append(frechet_distance(*map(remove, whole, parts)))
    return np.array(replicates)


class KernelDistance(NamedTuple):
    """A kernel distance.

    value: unbiased, so it may be negative.
    replicates: float64 [N], values without one pair each, for `statistics.jackknife`; empty
        where the sets are no pairs (N != M) or N < 3.
    """

    value: float
    replicates: np.ndarray


def kernel_distance(real: np.ndarray, generated: np.ndarray) -> KernelDistance:
    """Unbiased squared MMD of features [N, D] and [M, D] under the kernel (x.y / D + 1)^3.

    Binkowski et al. 2018 (KID, when the features are Inception's). All images are used at once, so
    nothing is sampled; the mean over random subsets that torch-fidelity and clean-fid print
    is an estimate of the same number. Memory: 64 MiB, excluding the features in float64.

    Raises:
      UserError: a set has fewer than 2 images, or features are not finite.
      ValueError: shapes do not fit.
    """
    real, generated = (np.asarray(check_features(rows), np.float64) for rows in (real, generated))
    if real.shape[1] != generated.shape[1]:
        raise ValueError(f"features {real.shape} and {generated.shape} differ")
    n, m = len(real), len(generated)
    if min(n, m) < 2:
        raise UserError(
            f"a distance between sets of {n} and {m} images is not defined; give at least 2 of each"
        )
    within = _sum_kernel_within(real), _sum_kernel_within(generated)
    across = _sum_kernel_across(real, generated)
    totals = within[0].sum(), within[1].sum(), across[0].sum()
    value = float(_combine(*totals, n, m))
    if n != m or n < 3:
        return KernelDistance(value, np.empty(0))
    own = _kernel(np.einsum("nd,nd->n", real, generated), real.shape[1])
    replicates = _combine(
        totals[0] - 2 * within[0],
        totals[1] - 2 * within[1],
        totals[2] - across[0] - across[1] + own,
        n - 1,
        n - 1,
    )
    return KernelDistance(value, replicates)


class InceptionScore(NamedTuple):
    """An Inception Score.

    value: mean over the splits.
    spread: standard deviation over the splits (ddof 0, as torch-fidelity prints).
    replicates: float64 [G], for `statistics.jackknife`: values without one split each or, with one
        split, without every 20th image in turn; empty for one image.
    """

    value: float
    spread: float
    replicates: np.ndarray


def inception_score(
    probabilities: np.ndarray, num_splits: int = 10, seed: int | None = 2020
) -> InceptionScore:
    """Inception Score of class probabilities [N, C]: exp mean_i sum_c p_ic log(p_ic / mean_j p_jc).

    Salimans et al. 2016. The defaults are torch-fidelity's: the rows are shuffled by NumPy's
    RandomState(2020), cut into 10 splits, and the splits' scores averaged. SelectionGAN's script
    takes all images at once, in order: num_splits=1, seed=None; rows need not sum to one, see
    `keep_top`. The score grows with the size of a split: compare equal protocols and N only.

    Raises:
      UserError: there are fewer images than splits, or probabilities are not finite.
      ValueError: `probabilities` is not [N, C].
    """
    probabilities = np.asarray(probabilities, np.float64)
    if probabilities.ndim != 2:
        raise ValueError(f"probabilities {probabilities.shape} must be [N, C]")
    num = len(probabilities)
    if not np.isfinite(probabilities).all():
        raise UserError("class probabilities are not finite; check the images and the weights")
    if num < num_splits:
        raise UserError(
            f"an Inception Score of {num_splits} splits needs as many images, there are {num}; "
            "give more images"
        )
    if seed is not None:
        # Not default_rng: the published protocol names this generator.
        probabilities = probabilities[np.random.RandomState(seed).permutation(num)]
    ends = [k * num // num_splits for k in range(num_splits + 1)]
    scores = np.array(
        [_score_split(probabilities[a:b]) for a, b in zip(ends[:-1], ends[1:], strict=True)]
    )
    value = float(scores.mean())
    if num_splits > 1:
        replicates = (scores.sum() - scores) / (num_splits - 1)
    elif num > 1:
        step = min(_NUM_GROUPS, num)
        rests = (np.delete(probabilities, np.s_[g::step], axis=0) for g in range(step))
        replicates = np.array([_score_split(rest) for rest in rests])
    else:
        replicates = np.empty(0)
    return InceptionScore(value, float(scores.std()), replicates)


def keep_top(probabilities: np.ndarray, k: int) -> np.ndarray:
    """Probabilities [N, C] with all but each row's k largest set to 1e-9 and not renormalised.

    SelectionGAN's top-k Inception Score; of equal ones the lower class counts as larger.
    """
    probabilities = np.asarray(probabilities, np.float64)
    top = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    kept = np.full_like(probabilities, _TOP_K_FLOOR)
    np.put_along_axis(kept, top, np.take_along_axis(probabilities, top, axis=1), axis=1)
    return kept


def _trace_of_root(outer: Moments, inner: Moments) -> float:
    """tr (S1 S2)^(1/2) of the covariances."""
    factor, pivots, rank, _ = lapack.dpstrf(outer.covariance)  # pyright: ignore[reportAttributeAccessIssue]
    factor = np.triu(factor)[:rank]
    order = pivots - 1  # LAPACK counts from one
    product = factor @ inner.covariance[np.ix_(order, order)] @ factor.T
    return float(np.sum(np.sqrt(np.maximum(np.linalg.eigvalsh(product), 0))))


def _kernel(products: np.ndarray, num_features: int) -> np.ndarray:
    base = products / num_features + 1
    return base * base * base


def _sum_kernel_within(features: np.ndarray) -> np.ndarray:
    """Sums of k(x_i, x_j) over j != i, [N]."""
    num, num_features = features.shape
    step = max(_KERNEL_ENTRIES // num, 1)
    sums = np.zeros(num)
    for start in range(0, num, step):
        rows = features[start : start + step]
        kernel = _kernel(rows @ features[start:].T, num_features)  # symmetric: one half of it
        np.fill_diagonal(kernel, 0)
        sums[start : start + step] += kernel.sum(axis=1)
        sums[start + step :] += kernel[:, step:].sum(axis=0)
    return sums


def _sum_kernel_across(real: np.ndarray, generated: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums of k(x_i, y_j) over j, [N], and over i, [M]."""
    step = max(_KERNEL_ENTRIES // len(generated), 1)
    sums, other_sums = np.zeros(len(real)), np.zeros(len(generated))
    for start in range(0, len(real), step):
        kernel = _kernel(real[start : start + step] @ generated.T, real.shape[1])
        sums[start : start + step] = kernel.sum(axis=1)
        other_sums += kernel.sum(axis=0)
    return sums, other_sums


def _combine(real, generated, across, n: int, m: int):
    return real / (n * (n - 1)) + generated / (m * (m - 1)) - 2 * across / (n * m)


def _score_split(probabilities: np.ndarray) -> float:
    # rel_entr takes 0 log 0 as 0; a logarithm of each factor would give NaN.
    terms = scipy.special.rel_entr(probabilities, probabilities.mean(axis=0))
    return float(np.exp(terms.sum(axis=1).mean()))
