"""Tables of `ablate.py`, in Markdown: means over seeds, and differences to the full method."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy import stats

from ablation.tasks import JUDGES, NAMES, SCORES
from retroguide_jax.evaluation.scores import Score, parse_scores

Scores = Mapping[str, Mapping[int, Mapping[Score, float]]]  # name -> seed -> score -> value

QUALITY = {
    **{Score("r@1", judge=judge): f"R@1 {judge}" for judge in JUDGES},
    Score("label_agreement"): "labels",
    **{Score("fd", judge=judge): f"FD {judge}" for judge in JUDGES},
    Score("psnr"): "PSNR",
    Score("psnr_nosky"): "no sky",
    Score("ssim_rgb"): "SSIM",
    Score("sharpness_ratio"): "sharpness",
    Score("broken_share"): "broken",
}
NOISE = {
    Score("diversity"): "diversity",
    Score("sky_spread_ratio"): "sky",
    Score("light_spread_ratio"): "light",
    Score("facade_spread_ratio"): "facades",
    Score("label_consistency"): "labels kept",
}
DIFFERENCES = {name: QUALITY[name] for name in tuple(QUALITY)[:6]}


def read_scores(output: Path) -> Scores:
    """The scores of every scored run below a folder."""
    scores: dict[str, dict[int, dict[Score, float]]] = {}
    for name in NAMES:
        for path in sorted((output / name).glob(f"seed_*/{SCORES}")):
            row = json.loads(path.read_text())
            values = {key: entry["value"] for key, entry in parse_scores(row["metrics"]).items()}
            seed = int(path.parent.name.removeprefix("seed_"))
            scores.setdefault(name, {})[seed] = values
    return scores


def format_tables(scores: Scores) -> str:
    """Two tables of means, mean +- half the 95 % interval of Student's t over the seeds, and one of
    differences to `full`, paired by seed, likewise; fewer than two seeds have no interval.
    """
    parts = [_format_means(scores, columns) for columns in (QUALITY, NOISE)]
    if "full" in scores:
        parts.append(_format_differences(scores))
    return "\n\n".join(parts)


def _format_means(scores: Scores, columns: Mapping[Score, str]) -> str:
    rows = [
        [name, str(len(runs)), *(_describe([run.get(c) for run in runs.values()]) for c in columns)]
        for name, runs in scores.items()
    ]
    first = next((run for runs in scores.values() for run in runs.values()), {})
    ceilings = [first.get(_find_ceiling(column)) for column in columns]
    rows.append(["*real images*", "", *(_describe([value]) for value in ceilings)])
    return _format(["", "seeds", *columns.values()], rows)


def _find_ceiling(column: Score) -> Score:
    """The score of the real images, which is the same in every run."""
    if column == Score("label_consistency"):  # both are limited by the errors of the label reader
        return Score("label_agreement", "real")
    return column.of("real")


def _format_differences(scores: Scores) -> str:
    full, rows = scores["full"], []
    for name, runs in scores.items():
        seeds = sorted(runs.keys() & full.keys())
        if name == "full" or not seeds:
            continue
        cells = []
        for score in DIFFERENCES:
            values = [_subtract(full[s].get(score), runs[s].get(score)) for s in seeds]
            cells.append(_describe(values, sign="+"))
        rows.append([name, str(len(seeds)), *cells])
    return _format(["full minus", "seeds", *DIFFERENCES.values()], rows)


def _subtract(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b


def _describe(values: Sequence[float | None], sign: str = "") -> str:
    if not values or any(value is None for value in values):
        return ""
    mean = np.mean(values)
    text = f"{mean:{sign}.3g}" if abs(mean) >= 100 else f"{mean:{sign}.3f}"
    if len(values) < 2:
        return text
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    return f"{text} ± {half:.3f}"


def _format(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
