"""A row of results as text: each metric beside its floors, its ceiling and its uncertainty."""

from collections.abc import Mapping
from typing import Any

from retroguide_jax.text import align

# What a name ends with, before the judge's: what was scored. A name without is of the generated.
_VARIANTS = ("generated", "shuffled", "mean_image", "real")
# By definition, real images compared with themselves score this. (PSNR would be infinite.)
_PERFECT_SCORES = {
    "ssim_rgb": 1.0,
    "ssim_lua": 1.0,
    "ssim_skimage": 1.0,
    "ssim_skimage_luma": 1.0,
    "ssim_rgb_nosky": 1.0,
    "sharpness_ratio": 1.0,
    "sky_spread_ratio": 1.0,
    "light_spread_ratio": 1.0,
    "facade_spread_ratio": 1.0,
}


def format_table(row: dict[str, Any]) -> str:
    """The row as aligned text.

    Columns: the generated images with the ends of the interval (95 %) and, of several noises, the
    standard deviation of the figure over them; the floors `shuffled` (the image generated from
    another source) and `mean image` (the training set's mean, for every source); the ceiling `real`
    (what the real images score); the number of images. Metrics that could not be computed follow
    with their reason.
    """
    lines = [("metric", "generated", "low", "high", "noises", *_VARIANTS[1:], "n")]
    lines[0] = tuple(title.replace("_", " ") for title in lines[0])
    for base, variants in group_variants(row["metrics"]).items():
        generated = variants.get("generated", {})
        cells = [generated.get(key) for key in ("value", "low", "high", "noise_std")]
        cells += [variants.get(variant, {}).get("value") for variant in _VARIANTS[1:]]
        if "infinite" in generated:
            cells[0] = float("inf")
        num = find_count(variants)
        lines.append((base, *map(_format_cell, cells), str(num)))
    absent = [f"absent: {entry['name']}: {entry['reason']}" for entry in row["absent"]]
    return "\n".join([align(lines), *absent])


def group_variants(metrics: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, dict]]:
    """The figures of a row by what was scored.

    Args:
      metrics: of a row, name -> {"value", "low", "high", "n", ...}.

    Returns:
      metric -> {"generated", "shuffled", "mean_image", "real" -> figure}, as far as there are such;
      a ceiling that holds by definition is {"value"} alone.
    """
    grouped: dict[str, dict[str, dict]] = {}
    for name, figure in metrics.items():
        base, variant = _split_name(name)
        grouped.setdefault(base, {})[variant] = figure
    for base, variants in grouped.items():
        if base in _PERFECT_SCORES:
            variants["real"] = {"value": _PERFECT_SCORES[base]}
    return grouped


def find_count(variants: Mapping[str, dict]) -> int:
    """Of how many images a metric's figures are."""
    return next(figure["n"] for figure in variants.values() if "n" in figure)


def _split_name(name: str) -> tuple[str, str]:
    """("r@1/judge", "shuffled") of "r@1_shuffled/judge"."""
    stem, slash, judge = name.partition("/")
    for variant in _VARIANTS:
        if stem.endswith(f"_{variant}"):
            return stem.removesuffix(f"_{variant}") + slash + judge, variant
    return name, "generated"


def _format_cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
