"""Compares a classifier's outputs on generated and real images, in float64 on the host.

KL score and accuracies follow the X-Fork scripts (Regmi & Borji 2018), which SelectionGAN, CrossMLP
and PanoGAN use too; there the classifier is AlexNet-Places365.
"""

from typing import NamedTuple

import numpy as np
import scipy.special

_SURE = 0.5


class KLScore(NamedTuple):
    """A KL score.

    value: exp of the mean divergence, >= 1; inf where a divergence is.
    spread: standard deviation (ddof 0) of the divergences themselves, in nats: tables print it
        after +-, though it is not the spread of `value`. inf where a divergence is.
    """

    value: float
    spread: float


def compute_probabilities(logits: np.ndarray) -> np.ndarray:
    """Softmax over the classes of logits [N, C], float64."""
    return scipy.special.softmax(np.asarray(logits, np.float64), axis=1)


def compute_divergences(generated: np.ndarray, real: np.ndarray) -> np.ndarray:
    """KL(generated || real) of each pair in nats, float64 [N]: sum_c g_c log(g_c / r_c).

    Args:
      generated, real: class probabilities [N, C]; row i of both is pair i.

    A class with probability 0 adds nothing where g_c is 0, and inf where only r_c is.

    Raises:
      ValueError: the shapes differ.
    """
    generated, real = _pair(generated, real)
    return scipy.special.rel_entr(generated, real).sum(axis=1)


def kl_score(divergences: np.ndarray) -> KLScore:
    """KL score, exp(mean_i KL_i), of `compute_divergences` [N]; lower is better.

    exp of the ends of an interval of the mean divergence gives the ends of the value's interval.
    """
    divergences = np.asarray(divergences, np.float64)
    if np.isinf(divergences).any():
        return KLScore(np.inf, np.inf)
    with np.errstate(over="ignore"):  # for a mean above 709 nats
        return KLScore(float(np.exp(divergences.mean())), float(divergences.std()))


def compute_accuracies(generated: np.ndarray, real: np.ndarray) -> dict[str, np.ndarray]:
    """Whether the classifier predicts the same class for the generated and the real image.

    Args:
      generated, real: class probabilities [N, C]; row i of both is pair i.

    Returns:
      Columns float64 [N] of 0 and 1, whose means are the accuracies: "top1", the likeliest
      classes of both are the same; "top5", the real image's likeliest class is among the
      generated one's five likeliest; "top1_sure" and "top5_sure", the same where the real
      image's likeliest class has a probability above 0.5 and NaN elsewhere. Of equally likely
      classes the lower comes first.

    Raises:
      ValueError: the shapes differ.
    """
    generated, real = _pair(generated, real)
    likeliest = np.argmax(real, axis=1)[:, None]
    # Count to get ranks, which is cheaper than sorting the rows.
    of_likeliest = np.take_along_axis(generated, likeliest, axis=1)
    is_before = np.arange(generated.shape[1]) < likeliest
    num_before = np.sum(
        (generated > of_likeliest) | ((generated == of_likeliest) & is_before), axis=1
    )
    is_sure = real.max(axis=1) > _SURE
    columns = {f"top{k}": (num_before < k).astype(np.float64) for k in (1, 5)}
    sure = {f"{name}_sure": np.where(is_sure, hits, np.nan) for name, hits in columns.items()}
    return columns | sure


def _pair(generated: np.ndarray, real: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    generated, real = np.asarray(generated, np.float64), np.asarray(real, np.float64)
    if generated.ndim != 2 or generated.shape != real.shape:
        raise ValueError(f"generated {generated.shape} and real {real.shape} must be one [N, C]")
    return generated, real
