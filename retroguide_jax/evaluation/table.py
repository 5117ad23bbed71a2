"""A row of results as text: each metric with its floors, its ceiling and its interval."""

from collections.abc import Mapping
from typing import Any

from retroguide_jax.evaluation.scores import VARIANTS, Score, parse_scores
from retroguide_jax.text import align

# Scores of real images compared with themselves, by definition. (PSNR would be infinite.)
_PERFECT_SCORES = {
    "ssim_rgb": 1.0,
    "ssim_lua": 1.0,
    "ssim_skimage": 1.0,
    "ssim_skimage_luma": 1.0,
    "ssim_rgb_nosky": 1.0,
    "sharpness_ratio": 1.0,
    "sky_spread_ratio": 1.0,
}


def format_table(row: Mapping[str, Any]) -> str:
    """The row as aligned text.

    Columns: the generated images with the ends of the interval (95 %) and, for several noises, the
    standard deviation of the score over them; the floors `shuffled` (the image generated from
    another source) and `mean image` (the training set's mean, for every source); the ceiling `real`
    (what the real images score); the number of images. Metrics that could not be computed follow
    with their reason, and rankings in which most queries are tied.
    """
    titles = ("metric", "generated", "low", "high", "noises", *VARIANTS[1:], "n")
    lines = [tuple(title.replace("_", " ") for title in titles)]
    for score, variants in group_variants(parse_scores(row["metrics"])).items():
        generated = variants.get("generated", {})
        cells = [generated.get(key) for key in ("value", "low", "high", "noise_std")]
        cells += [variants.get(variant, {}).get("value") for variant in VARIANTS[1:]]
        if "infinite" in generated:
            cells[0] = float("inf")
        num = find_count(variants)
        lines.append((score.label, *map(_format_cell, cells), str(num)))
    absent = [f"absent: {entry['name']}: {entry['reason']}" for entry in row["absent"]]
    return "\n".join([align(lines), *absent, *_describe_ties(row)])


def _describe_ties(row: Mapping[str, Any]) -> list[str]:
    """Warnings about rankings in which most queries are tied with another item."""
    lines = []
    for kind, num_tied in row.get("ties", {}).items():
        num = row["metrics"].get(f"r@1_{kind}", {}).get("n", 0)
        if 2 * num_tied > num > 0:
            lines.append(
                f"ties: {kind}: for {num_tied} of {num} queries the right item and another are "
                "equally similar: is an image twice in the gallery, or the embedding constant?"
            )
    return lines


def group_variants(scores: Mapping[Score, dict[str, Any]]) -> dict[Score, dict[str, dict]]:
    """Groups the scores of a row that differ only in their variant.

    Args:
      scores: key -> {"value", "low", "high", "n", ...}.

    Returns:
      key of the generated images -> {variant: entry} for the variants that exist; a ceiling that
      holds by definition is {"value"} only.
    """
    grouped: dict[Score, dict[str, dict]] = {}
    for score, entry in scores.items():
        grouped.setdefault(score.of("generated"), {})[score.variant] = entry
    for score, variants in grouped.items():
        if score.metric in _PERFECT_SCORES:
            variants["real"] = {"value": _PERFECT_SCORES[score.metric]}
    return grouped


def find_count(variants: Mapping[str, dict]) -> int:
    """The number of images behind a metric's scores."""
    return next(entry["n"] for entry in variants.values() if "n" in entry)


def _format_cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
