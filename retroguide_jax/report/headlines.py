"""The few scores that show whether a run is good, each explained in words."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from retroguide_jax.evaluation.judges import EMBEDDER
from retroguide_jax.evaluation.registry import METRICS, find_direction, find_metric
from retroguide_jax.evaluation.scores import Score
from retroguide_jax.evaluation.table import find_count, group_variants

_MOST = 8


@dataclasses.dataclass(frozen=True)
class Headline:
    """One score, and how to draw it.

    Attributes:
      metric: its name in the ledger.
      title: the same in words.
      text: its value as text.
      interval: its 95 % interval as text; "" where there is none.
      words: what it means.
      good: which values are good.
      num: number of images that it was measured on.
      marks: label -> (position, value as text) of "score" and, where known, "floor", "mean image"
        and "ceiling"; a position is in percent of the bar from left to right.
      ends: positions of the interval's ends; None where there is none.
    """

    metric: str
    title: str
    text: str
    interval: str
    words: str
    good: str
    num: int
    marks: dict[str, tuple[float, str]]
    ends: tuple[float, float] | None


def make_headlines(scores: Mapping[Score, dict[str, Any]], noun: str) -> list[Headline]:
    """Makes headlines of the most informative scores.

    Args:
      scores: of the newest rows of results.jsonl.
      noun: the kind of image that is generated, for example "panorama".
    """
    grouped = group_variants(scores)
    found = []
    for score in _choose(grouped):
        variants = grouped[score]
        main = variants.get("generated") or variants.get("real", {})
        if main.get("value") is not None:
            found.append(_make(score, main, variants, noun))
    return found[:_MOST]


def _choose(grouped: Mapping[Score, Any]) -> list[Score]:
    """Scores by importance: right place, same panorama layout, similarity, sharpness, variety."""
    recalls = [score for score in grouped if score.metric == "r@1"]
    # Show every independent judge, since they may differ much; without any, show the embedder.
    independent = [score for score in recalls if score.judge != EMBEDDER]
    fixed = (
        "label_agreement",
        "ssim_rgb",
        "psnr",
        "sharpness_ratio",
        "broken_share",
        "sky_spread_ratio",
    )
    distances = [*map(Score, ("fid", "clean_fid", "lpips_alex"))]
    distances += [score for score in grouped if score.metric == "fd" and score.judge != EMBEDDER]
    distances = [score for score in distances if score in grouped]
    return [
        *(independent or recalls),
        *(s for s in map(Score, fixed) if s in grouped),
        *distances[:1],
    ]


def _make(score: Score, main: dict, variants: Mapping[str, dict], noun: str) -> Headline:
    is_share = score.metric in ("r@1", "label_agreement", "broken_share")
    write = _write_percent if is_share else _write_number
    unit = METRICS[known].unit if (known := find_metric(score)) else ""
    names = {"shuffled": "floor", "mean_image": "mean image", "real": "ceiling"}
    values = {"score": main["value"]}
    for variant, name in names.items():
        value = variants.get(variant, {}).get("value")
        if value is not None and variants[variant] is not main:
            values[name] = value
    ends = [main[end] for end in ("low", "high") if main.get(end) is not None]
    ends = ends if len(ends) == 2 else []
    place = _scale([*values.values(), *ends], is_share, "floor" in values)
    return Headline(
        metric=score.label,
        title=_title(score),
        text=f"{write(main['value'])} {unit}".strip(),
        interval=f"{write(ends[0])} to {write(ends[1])}" if ends else "",
        words=_explain(score, values, noun, write),
        good=_GOOD[find_direction(score)],
        num=find_count(variants),
        marks={name: (place(value), write(value)) for name, value in values.items()},
        ends=(place(ends[0]), place(ends[1])) if ends else None,
    )


def _scale(values: list[float], is_share: bool, has_floor: bool) -> Callable[[float], float]:
    """Returns value -> position on the bar in percent; without a floor the bar begins at 0."""
    low, high = (0.0, 1.0) if is_share else (min(values), max(values))
    if not is_share:
        low = low if has_floor else min(low, 0.0)
        room = 0.15 * (high - low) or 1.0
        low, high = low - room * has_floor, high + room
    return lambda value: round(100 * (value - low) / (high - low), 2)


_GOOD = {"higher": "higher is better", "lower": "lower is better", "one": "1 is best"}
_TITLES = {
    "label_agreement": "Buildings, roads and sky are in the right place",
    "ssim_rgb": "Same structure as the real image (SSIM)",
    "psnr": "Same pixels as the real image (PSNR)",
    "sharpness_ratio": "Sharpness compared with real images",
    "broken_share": "Broken images",
    "sky_spread_ratio": "Variety of the sky compared with real images",
    "fid": "Distance from real images (FID)",
    "clean_fid": "Distance from real images (FID)",
    "lpips_alex": "Visible difference from the real image (LPIPS)",
}


def _title(score: Score) -> str:
    if score.metric == "r@1":
        whose = "its own embedder" if score.judge == EMBEDDER else score.judge
        return f"Right place found first, by {whose}"
    return _TITLES.get(score.metric, f"Distance from real images, by {score.judge}")


def _explain(score: Score, values: Mapping[str, float], noun: str, write) -> str:
    floor, ceiling = values.get("floor"), values.get("ceiling")
    if score.metric == "r@1":
        return _explain_recall(score.judge, floor, ceiling, noun, write)
    if score.metric == "label_agreement":
        return (
            "Share of the pixels that show the right kind of thing, as a small network reads the "
            f"{noun}. The mean image shows no place at all."
        )
    if score.metric == "sharpness_ratio":
        return "Mean gradient, generated over real: 1 is as sharp as real images, less is blurred."
    if score.metric == "broken_share":
        return (
            "Share of images with blocks, saturation or noise that no real image of the split has."
        )
    if score.metric == "sky_spread_ratio":
        return (
            "How much the noise changes the light: 1 is as much as real skies differ, 0 not at all."
        )
    mean = values.get("mean image")
    if mean is not None:
        better = mean > values["score"]
        return (
            f"The mean training image, which shows no place, scores {write(mean)}"
            f"{', more than the generated ones: this score rewards blur' if better else ''}; "
            "read it together with sharpness."
        )
    return "Comparable only under the same protocol."


def _explain_recall(judge: str, floor, ceiling, noun: str, write) -> str:
    if floor is None:  # an embedder without a generator is scored on the real images
        return f"Share of the real {noun}s that find their own place first among all of the split."
    whose = "the generator's own embedder, which it was trained to please"
    if judge != EMBEDDER:
        whose = f"an embedder that the generator never saw ({judge})"
    real = "" if ceiling is None else f" Real {noun}s: {write(ceiling)}."
    return (
        f"Share of the generated {noun}s that find their own place first among all of the split, "
        f"by {whose}.{real} Drawn from a wrong source: {write(floor)}."
    )


def _write_percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _write_number(value: float) -> str:
    return f"{value:.2f}" if abs(value) >= 10 else f"{value:.3f}"
