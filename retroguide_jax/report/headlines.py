"""The few figures that say whether a run is good, each with what it means in words."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from retroguide_jax.evaluation.job import EMBEDDER
from retroguide_jax.evaluation.registry import METRICS, find_metric
from retroguide_jax.evaluation.table import find_count, group_variants

_MOST = 8


@dataclasses.dataclass(frozen=True)
class Headline:
    """One figure, and how to draw it.

    Attributes:
      metric: its name in the ledger.
      title: the same in words.
      text: the figure, written out.
      interval: its 95 % interval, written out; "" where there is none.
      words: what it means.
      num: of how many images.
      marks: what -> (place, value as text), "figure" and, as far as known, "floor", "mean image"
        and "ceiling"; a place is in percent of the bar from left to right.
      ends: places of the interval; None where there is none.
    """

    metric: str
    title: str
    text: str
    interval: str
    words: str
    num: int
    marks: dict[str, tuple[float, str]]
    ends: tuple[float, float] | None


def make_headlines(figures: Mapping[str, dict[str, Any]], noun: str) -> list[Headline]:
    """The most telling of what was measured.

    Args:
      figures: metrics of the ledger's newest rows.
      noun: what is generated, "panorama".
    """
    grouped = group_variants(figures)
    found = []
    for metric in _choose(grouped):
        variants = grouped[metric]
        main = variants.get("generated") or variants.get("real", {})
        if main.get("value") is not None:
            found.append(_make(metric, main, variants, noun))
    return found[:_MOST]


def _choose(grouped: Mapping[str, Any]) -> list[str]:
    """By what is asked first: the right place? laid out alike? alike? sharp? varied?"""
    recalls = [name for name in grouped if name.startswith("r@1/")]
    # Every independent judge, since they may differ much; without any, the embedder itself.
    independent = [name for name in recalls if name != f"r@1/{EMBEDDER}"]
    fixed = ("label_agreement", "ssim_rgb", "psnr", "sharpness_ratio", "sky_spread_ratio")
    distances = [name for name in ("fid", "clean_fid", "lpips_alex") if name in grouped]
    distances += [name for name in grouped if name.startswith("fd_") and name != f"fd_{EMBEDDER}"]
    return [*(independent or recalls), *(name for name in fixed if name in grouped), *distances[:1]]


def _make(metric: str, main: dict, variants: Mapping[str, dict], noun: str) -> Headline:
    is_share = metric.startswith("r@") or metric == "label_agreement"
    write = _write_percent if is_share else _write_number
    unit = METRICS[known].unit if (known := find_metric(metric)) in METRICS else ""
    names = {"shuffled": "floor", "mean_image": "mean image", "real": "ceiling"}
    values = {"figure": main["value"]}
    for variant, name in names.items():
        value = variants.get(variant, {}).get("value")
        if value is not None and variants[variant] is not main:
            values[name] = value
    ends = [main.get(end) for end in ("low", "high")]
    ends = [] if None in ends else ends
    place = _scale([*values.values(), *ends], is_share, "floor" in values)
    return Headline(
        metric=metric,
        title=_TITLES.get(metric, _title(metric)),
        text=f"{write(main['value'])} {unit}".strip(),
        interval=f"{write(ends[0])} to {write(ends[1])}" if ends else "",
        words=_explain(metric, values, noun, write),
        num=find_count(variants),
        marks={name: (place(value), write(value)) for name, value in values.items()},
        ends=(place(ends[0]), place(ends[1])) if ends else None,
    )


def _scale(values: list[float], is_share: bool, has_floor: bool) -> Callable[[float], float]:
    """From values to places on the bar, in percent; without a floor it begins at 0."""
    low, high = (0.0, 1.0) if is_share else (min(values), max(values))
    if not is_share:
        low = low if has_floor else min(low, 0.0)
        room = 0.15 * (high - low) or 1.0
        low, high = low - room * has_floor, high + room
    return lambda value: round(100 * (value - low) / (high - low), 2)


_TITLES = {
    "label_agreement": "Layout agrees with the real place",
    "ssim_rgb": "Structural similarity to the real image",
    "psnr": "Pixel agreement with the real image",
    "sharpness_ratio": "Sharpness, of the real images'",
    "sky_spread_ratio": "Variety of the sky, of the real images'",
    "fid": "Distance between generated and real images (FID)",
    "clean_fid": "Distance between generated and real images (FID)",
    "lpips_alex": "Perceived distance from the real image (LPIPS)",
}


def _title(metric: str) -> str:
    if metric.startswith("r@1/"):
        return f"Finds its own place first, by {metric.partition('/')[2]}"
    return "Distance between generated and real images, as a judge sees them"


def _explain(metric: str, values: Mapping[str, float], noun: str, write) -> str:
    floor, ceiling = values.get("floor"), values.get("ceiling")
    if metric.startswith("r@1/"):
        return _explain_recall(metric.partition("/")[2], floor, ceiling, noun, write)
    if metric == "label_agreement":
        return (
            "Of the pixels, how many show the right kind of thing, as a small network reads it off "
            f"the {noun}. The mean image stands beside because it shows no place at all."
        )
    if metric == "sharpness_ratio":
        return "Mean gradient, generated over real: 1 is as sharp as real, below is blurred."
    if metric == "sky_spread_ratio":
        return "How far the noises change the light: 1 is as far as real skies differ, 0 never."
    mean = values.get("mean image")
    if mean is not None:
        better = mean > values["figure"]
        return (
            f"The mean training image, which shows no place, scores {write(mean)}"
            f"{', more than the generated ones: this measure rewards blur' if better else ''}; "
            "read it beside sharpness."
        )
    return "Lower is better; comparable only under the same protocol."


def _explain_recall(judge: str, floor, ceiling, noun: str, write) -> str:
    if floor is None:  # of an embedder on its own, the figure is the real images'
        return f"Of the real {noun}s, how many find their own place first among all of the split."
    whose = "the generator's own embedder, which it was trained to please"
    if judge != EMBEDDER:
        whose = f"an embedder that the generator never saw ({judge})"
    real = "" if ceiling is None else f"; of the real {noun}s {write(ceiling)} do"
    return (
        f"Of the generated {noun}s, how many find their own place first among all of the split, by "
        f"{whose}{real}; of those drawn from another place {write(floor)}."
    )


def _write_percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _write_number(value: float) -> str:
    return f"{value:.2f}" if abs(value) >= 10 else f"{value:.3f}"
