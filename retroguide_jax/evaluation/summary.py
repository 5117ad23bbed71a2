"""Computes scores with intervals from columns with one row per image.

Names of scores:

METRIC              of the generated images: mean over images and noises
METRIC_shuffled     floor: the image generated from another source against the target
METRIC_mean_image   floor: the mean training target against each real target
METRIC_real         of the real images

Retrieval scores are in ranking.py, scores of sets of images in distributions.py.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from retroguide_jax.evaluation import registry
from retroguide_jax.evaluation.ranking import Ranker
from retroguide_jax.evaluation.scores import VARIANTS, Score, Scores
from retroguide_jax.metrics import breakage, diversity, statistics


def summarize(
    columns: Mapping[str, np.ndarray],
    metrics: Sequence[str],
    judges: Sequence[str],
    *,
    source_view: str,
    target_view: str,
    tiles: Mapping[str, np.ndarray],
    seed: int,
    max_bytes: int,
) -> Scores:
    """All scores that the columns allow.

    Args:
      columns: see scoring.py.
      metrics: names of the registry.
      judges: names.
      source_view, target_view: "aerial" and "ground", or the reverse.
      tiles: of the gallery, see `Scorer.embed_tiles`.
      seed: of the bootstrap.
      max_bytes: see `retrieval.rank_matches`.
    """
    scores = Scores(seed)
    scores.per_image["id"] = columns["id"]
    _add_means(scores, columns, metrics)
    if (retrievals := registry.list_group(metrics, "retrieval")) and len(columns["id"]) < 2:
        for name in retrievals:
            scores.add_absent(name, "needs at least 2 images: one is always found among itself")
    elif retrievals:
        ranker = Ranker(scores, columns, (source_view, target_view), tiles, max_bytes)
        for judge in judges:
            ranker.add(judge, metrics)
    _add_noise(scores, columns, metrics)
    _explain_absence(scores, columns, metrics, judges)
    return scores


def _add_means(scores: Scores, columns: Mapping, metrics: Sequence[str]) -> None:
    for name in registry.list_group(metrics, "pair", "masked", "lpips", "alone"):
        if name in _MAKERS:
            _MAKERS[name](scores, columns)
            continue
        _add_variants(scores, columns, name)
        if registry.METRICS[name].group == "masked" and name not in columns:
            scores.add_absent(name, "needs sky masks of the ground target")
    for name in LAYOUT if "layout" in metrics else ():
        _add_variants(scores, columns, name)


def _add_variants(scores: Scores, columns: Mapping, name: str) -> None:
    for score in (Score(name, variant) for variant in VARIANTS):
        if score.text in columns:
            scores.add_mean(score, columns[score.text], keep=score.variant == "generated")


# Scores of the metric `layout`: per image, and between the noises of one source.
LAYOUT = ("label_agreement", "mean_iou", "skyline_error", "depth_error", "label_consistency")
LAYOUT_SURFACES = ("light", "facade")


def _add_sharpness(scores: Scores, columns: Mapping) -> None:
    if "sharpness_ratio" not in columns:
        return
    generated = np.asarray(columns["sharpness_ratio"], np.float64)
    real = np.asarray(columns["sharpness_ratio_real"], np.float64)
    if not real.mean():
        scores.add_absent("sharpness_ratio", "the real images are all flat")
        return
    found = statistics.bootstrap_ratio(generated.mean(axis=1), real, seed=scores.seed)
    per_noise = generated.mean(axis=0) / real.mean()
    scores.add(Score("sharpness_ratio"), found.value, found.low, found.high, len(real), per_noise)
    scores.per_image["sharpness_ratio"] = generated / real.mean()


def _add_broken(scores: Scores, columns: Mapping) -> None:
    real = np.asarray(columns["broken_share_real"], np.float64)
    if len(real) < breakage.MIN_REFERENCES:
        needed = f"needs at least {breakage.MIN_REFERENCES} real images to know their range"
        scores.add_absent("broken_share", f"{needed}, there are {len(real)}")
        return
    if "broken_share" in columns:
        found = breakage.find_broken(np.asarray(columns["broken_share"], np.float64), real)
        scores.add_mean(Score("broken_share"), found)
    alarms = breakage.find_false_alarms(real)
    scores.add_mean(Score("broken_share", "real"), alarms, keep=False)


_MAKERS = {"sharpness_ratio": _add_sharpness, "broken_share": _add_broken}


def _add_noise(scores: Scores, columns: Mapping, metrics: Sequence[str]) -> None:
    for name in ("diversity", "diversity_lpips_alex"):
        if name in columns:
            scores.add_mean(Score(name), columns[name])
        elif name in metrics:
            scores.add_absent(name, "needs at least 2 noises, or --num_samples of them")
    if "sky_spread_ratio" in metrics:
        if "sky" in columns:
            _add_spread(scores, columns, "sky")
        else:
            reason = "needs at least 2 noises, a ground target and a data set with sky masks"
            scores.add_absent("sky_spread_ratio", reason)
    for surface in LAYOUT_SURFACES:
        if surface in columns:
            _add_spread(scores, columns, surface)


def _add_spread(scores: Scores, columns: Mapping, surface: str) -> None:
    name, colours, real = f"{surface}_spread_ratio", columns[surface], columns[f"{surface}_real"]
    is_shown = np.isfinite(real).all(axis=-1)

    def compute(colours: np.ndarray, real: np.ndarray) -> float:
        return diversity.compute_spread_ratio(np.swapaxes(colours, 0, 1), real)[0]

    value = compute(colours, real)
    if not np.isfinite(value):
        scores.add_absent(name, f"needs different colours; {is_shown.sum()} real images show them")
        return
    found = statistics.bootstrap(compute, (colours[is_shown], real[is_shown]), seed=scores.seed)
    scores.add(Score(name), value, found.low, found.high, int(is_shown.sum()))


def _explain_absence(
    scores: Scores, columns: Mapping, metrics: Sequence[str], judges: Sequence[str]
) -> None:
    for name in metrics:
        needs_source = name in ("retrieval", "retrieval_reverse")
        if name == "fd_judge" or registry.METRICS[name].group == "retrieval":
            if not judges:
                scores.add_absent(name, "needs an embedder: give --judge")
            elif needs_source and f"source/{judges[0]}" not in columns:
                scores.add_absent(name, "needs what the images were made from: give --source")
    if "layout" in metrics and "label_agreement" not in columns:
        scores.add_absent("layout", "needs a ground target and procedural_city, which has labels")
