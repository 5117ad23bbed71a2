"""Tables of `ablate.py`, in Markdown: means over seeds, and differences to the full method."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy import stats

from ablation.tasks import JUDGES, NAMES, SCORES

Scores = Mapping[str, Mapping[int, Mapping[str, float]]]  # name -> seed -> figure -> value

QUALITY = {
    **{f"r@1_generated/{judge}": f"R@1 {judge}" for judge in JUDGES},
    "label_agreement": "labels",
    "fd_saig": "FD saig",
    "psnr": "PSNR",
    "psnr_nosky": "no sky",
    "ssim_rgb": "SSIM",
    "sharpness_ratio": "sharpness",
}
NOISE = {
    "diversity": "diversity",
    "sky_spread_ratio": "sky",
    "light_spread_ratio": "light",
    "facade_spread_ratio": "facades",
    "label_consistency": "labels kept",
}
DIFFERENCES = {name: QUALITY[name] for name in tuple(QUALITY)[:6]}


def read_scores(output: Path) -> Scores:
    """The figures of every scored run below a folder."""
    scores: dict[str, dict[int, dict[str, float]]] = {}
    for name in NAMES:
        for path in sorted((output / name).glob(f"seed_*/{SCORES}")):
            row = json.loads(path.read_text())
            figures = {figure: entry["value"] for figure, entry in row["metrics"].items()}
            seed = int(path.parent.name.removeprefix("seed_"))
            scores.setdefault(name, {})[seed] = figures
    return scores


def format_tables(scores: Scores) -> str:
    """Two tables of means, with half the 95 % interval of Student's t over the seeds, and one of
    differences to `full`, seed by seed, with the same; that of fewer than two seeds is missing.
    """
    parts = [_format_means(scores, columns) for columns in (QUALITY, NOISE)]
    if "full" in scores:
        parts.append(_format_differences(scores))
    return "\n\n".join(parts)


def _format_means(scores: Scores, columns: Mapping[str, str]) -> str:
    rows = [
        [name, str(len(runs)), *(_describe([run.get(c) for run in runs.values()]) for c in columns)]
        for name, runs in scores.items()
    ]
    first = next((run for runs in scores.values() for run in runs.values()), {})
    ceilings = [first.get(_name_ceiling(column)) for column in columns]
    rows.append(["*real images*", "", *(_describe([value]) for value in ceilings)])
    return _format(["", "seeds", *columns.values()], rows)


def _name_ceiling(column: str) -> str:
    """The figure of the real images, which is the same in every run."""
    if column == "label_consistency":  # what the reader makes of one image is all it can repeat
        return "label_agreement_real"
    return column.replace("_generated/", "_real/") if "/" in column else f"{column}_real"


def _format_differences(scores: Scores) -> str:
    full, rows = scores["full"], []
    for name, runs in scores.items():
        seeds = sorted(runs.keys() & full.keys())
        if name == "full" or not seeds:
            continue
        cells = []
        for figure in DIFFERENCES:
            values = [_subtract(full[s].get(figure), runs[s].get(figure)) for s in seeds]
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
