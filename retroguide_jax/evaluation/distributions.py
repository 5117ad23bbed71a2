"""Scores of sets of images, from the columns of frozen networks and judges.

fd_X           Frechet distance on the features of X: a judge's embeddings of the target view, or
               the outputs of a network given by --features. FID means Inception features only
kl_C, top1_C, top5_C, and _sure   by a classifier C, "places" or one given by --classifier: see
               classification.py
inception_score_C, _top1, _top5   see `distribution.keep_top`
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import scipy.special

from retroguide_jax.evaluation.registry import METRICS
from retroguide_jax.evaluation.scores import Score, Scores
from retroguide_jax.metrics import classification, distribution, statistics


def add_distances(
    scores: Scores,
    columns: Mapping[str, np.ndarray],
    metrics: Sequence[str],
    judges: Sequence[str],
    features: Sequence[str],
    classifiers: Sequence[str] = (),
) -> None:
    """Adds the distances between generated and real images, and the scores by classifiers.

    With several noises a score is the mean over them; its interval is the jackknife interval of
    noise 0, shifted to that mean.

    Args:
      scores: receives the results.
      columns: see scoring.py.
      metrics: names of the registry.
      judges: names, for "fd_judge".
      features: names of the networks of --features.
      classifiers: names of the networks of --classifier, whose rows are logits.
    """
    for name in metrics:
        if METRICS[name].group == "distribution" and METRICS[name].net:
            rows = _get_rows(columns, METRICS[name].net, name)
            with scores.explain(name):
                _MAKERS[name](scores, Score(name), rows)
    for name in judges if "fd_judge" in metrics else ():
        pair = columns[f"real/{name}"], columns[f"generated/{name}"]
        with scores.explain((score := Score("fd", judge=name)).text):
            _add_frechet(scores, score, pair)
    for name in features:
        with scores.explain((score := Score("fd", judge=name)).text):
            _add_frechet(scores, score, _get_rows(columns, name, "features"))
    wanted = [n.removesuffix("_places") for n in metrics if METRICS[n].net == "places"]
    if wanted:
        _add_classifier(scores, "places", _get_rows(columns, "places", "kl_places"), wanted)
    for name in classifiers:
        logits = _get_rows(columns, name, "features")
        rows = tuple(scipy.special.softmax(each.astype(np.float64), axis=-1) for each in logits)
        _add_classifier(scores, name, rows, ("kl", "accuracy", "inception_score"))


Rows = tuple[np.ndarray, np.ndarray]  # real [N, D], generated [N, K, D]


def _get_rows(columns: Mapping, net: str, metric: str) -> Rows:
    output = {"inception_score": "logits", "kl_places": "probabilities"}.get(metric, "features")
    name = f"{net}.{output}"
    return columns[f"real/{name}"], columns[f"generated/{name}"]


def _iterate_noises(rows: Rows) -> Iterator[np.ndarray]:
    return iter(np.moveaxis(rows[1], 1, 0))


def _add(scores: Scores, score: Score, values: Sequence[float], replicates, num: int) -> None:
    found = statistics.jackknife(values[0], replicates)
    value = float(np.mean(values))
    low, high = (value + end - values[0] for end in (found.low, found.high))
    scores.add(score, value, low, high, num, values)


def _add_frechet(scores: Scores, score: Score, rows: Rows) -> None:
    samples = list(_iterate_noises(rows))
    values = [distribution.frechet_between(rows[0], sample) for sample in samples]
    # With 2,048 features and more images than that, each distance takes seconds, and the jackknife
    # computes one per group.
    num_groups = 10 if rows[0].shape[1] > 1024 else 20
    replicates = distribution.frechet_replicates(rows[0], samples[0], num_groups)
    _add(scores, score, values, replicates, len(rows[0]))


def _add_kernel(scores: Scores, score: Score, rows: Rows) -> None:
    found = [distribution.kernel_distance(rows[0], sample) for sample in _iterate_noises(rows)]
    _add(scores, score, [kid.value for kid in found], found[0].replicates, len(rows[0]))


def _add_score(scores: Scores, score: Score, sets: Sequence[np.ndarray], **protocol: Any) -> None:
    if len(sets[0]) < protocol.get("num_splits", 10):
        scores.add_absent(score.text, f"needs 10 images, there are {len(sets[0])}")
        return
    found = [distribution.inception_score(probabilities, **protocol) for probabilities in sets]
    values = [each.value for each in found]
    _add(scores, score, values, found[0].replicates, len(sets[0]))


def _add_inception_score(scores: Scores, score: Score, rows: Rows) -> None:
    sets = [classification.compute_probabilities(logits) for logits in _iterate_noises(rows)]
    _add_score(scores, score, sets)
    # The ceiling: a small set limits the score of real images, too.
    _add_score(scores, score.of("real"), [classification.compute_probabilities(rows[0])])


_MAKERS: Mapping[str, Callable[[Scores, Score, Rows], None]] = {
    **dict.fromkeys(("fid", "clean_fid", "fid_tf", "fid_torchmetrics"), _add_frechet),
    **dict.fromkeys(("kid", "clean_kid"), _add_kernel),
    "inception_score": _add_inception_score,
}


def _add_classifier(scores: Scores, name: str, rows: Rows, wanted: Sequence[str]) -> None:
    """Adds the scores "kl", "accuracy" and "inception_score" of a classifier, if in `wanted`."""
    real, samples = rows[0], list(_iterate_noises(rows))
    if "kl" in wanted:
        score = Score("kl", judge=name)
        divergences = [classification.compute_divergences(sample, real) for sample in samples]
        scores.per_image[score.text] = np.stack(divergences, axis=1)
        values = [classification.kl_score(column).value for column in divergences]
        found = statistics.bootstrap_mean(np.mean(divergences, axis=0), seed=scores.seed)
        ends = np.exp(found.low), np.exp(found.high)
        scores.add(score, float(np.mean(values)), *ends, len(real), values)
    if "accuracy" in wanted:
        hits = [classification.compute_accuracies(sample, real) for sample in samples]
        for column in hits[0]:
            score = Score(column, judge=name)
            scores.add_mean(score, np.stack([columns[column] for columns in hits], axis=1))
    if "inception_score" in wanted:
        for k in (None, 1, 5):
            kept = samples if k is None else [distribution.keep_top(s, k) for s in samples]
            score = Score(f"inception_score_top{k}" if k else "inception_score", judge=name)
            _add_score(scores, score, kept, num_splits=1, seed=None)
