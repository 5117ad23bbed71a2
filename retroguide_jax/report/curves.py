"""Learning curves as Plotly figures in plain dictionaries, ready for JSON."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from retroguide_jax.evaluation.judges import EMBEDDER
from retroguide_jax.evaluation.registry import find_metric
from retroguide_jax.evaluation.scores import Score
from retroguide_jax.report.collect import Run

# Distinct in lightness and hue on white and near-black (Okabe and Ito, 2008, slightly darkened).
COLOURS = ("#0b84c6", "#c46a14", "#1f9e78", "#c0619d", "#8a7a1e", "#7d6bc4")
_SKIPPED = "#d64545"
_MOST_LINEAR = 10  # a loss that changes by more than this factor gets a log axis
_GROUPS = {
    "contrastive": "Embedder",
    "guide": "Embedder",
    "structure": "Generator",
    "g": "Generator",
    "d": "Discriminator",
    "val": "Validation",
}
_TITLES = {"psnr": "PSNR, dB", "ssim_rgb": "SSIM"}
_LOSSES = {
    "structure/l1_low": "L1 at low resolution",
    "g/adversarial": "adversarial loss",
    "g/l1": "L1 to the real image",
    "g/l1_low": "L1 at low resolution",
    "g/retrieval": "retrieval loss (InfoNCE)",
    "g/tokens": "L1 between the guide's tokens",
    "d/fake": "output for generated images",
    "d/mismatched": "output for real images, wrong source",
    "d/penalty": "gradient penalty",
    "d/real": "output for real images",
    "d/real_val": "output for real validation images",
}


@dataclasses.dataclass(frozen=True)
class Chart:
    """A chart of one quantity.

    Attributes:
      title: shown above it.
      group: charts of one group stand together.
      figure: {"data", "layout"} of Plotly.
      is_aside: whether it is a diagnostic, such as a gradient norm, needed when something is wrong.
    """

    title: str
    group: str
    figure: dict[str, Any]
    is_aside: bool = False


def draw_curves(runs: Sequence[Run]) -> list[Chart]:
    """One chart per metric, one line per run; dashed lines: skipped updates of the first run."""
    names = dict.fromkeys(name for run in runs for name in run.curves)
    skipped = find_skipped(runs[0])
    charts = []
    for name in sorted(names, key=_place):
        group, _, metric = name.partition("/")
        if (
            group not in _GROUPS
            or (group == "val" and not _has_chart(metric))
            or _is_once(runs, name)
        ):
            continue
        lines = {
            run.name: (number, run.curves[name])
            for number, run in enumerate(runs)
            if name in run.curves
        }
        values = [v for _, (_, column) in lines.values() for v in column if v is not None] or [0.0]
        is_log = metric in ("loss", "grad") and 0 < _MOST_LINEAR * min(values) < max(values)
        words = _LOSSES.get(name, metric.replace("_", " "))
        words = _name_score(metric) if group == "val" else words
        words += ", structure stage first" if group == "structure" else ""
        title = words + (", log axis" if is_log else "")
        figure = _draw(lines, "step", skipped if group != "val" else [])
        if is_log:
            ticks = _list_ticks(min(values), max(values))
            axis = {"type": "log", "tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}
            figure["layout"]["yaxis"] = axis
        charts.append(Chart(title, _GROUPS[group], figure, metric in ("grad", "param_norm")))
    return charts


def list_once(run: Run) -> list[str]:
    """Validation scores measured only once, one text per step: no chart for a single point."""
    found: dict[int, list[str]] = {}
    for name, (steps, values) in run.curves.items():
        group, _, metric = name.partition("/")
        if group == "val" and _has_chart(metric) and len(steps) == 1 and values[0] is not None:
            found.setdefault(steps[0], []).append(f"{_name_score(metric)} = {values[0]:.4g}")
    return [f"at step {step}: {', '.join(texts)}" for step, texts in found.items()]


def _has_chart(text: str) -> bool:
    """Whether a score has a chart: generated images only; of recalls only R@1 and its ceiling."""
    score = Score.parse(text)
    if find_metric(score) == "retrieval":
        return score.metric == "r@1" and score.variant != "shuffled"
    return score.variant == "generated"


def _name_score(text: str) -> str:
    score = Score.parse(text)
    words = _TITLES.get(score.metric, score.metric.replace("_", " ").replace("r@1", "R@1"))
    whose = f" of the {score.variant}" if score.metric == "r@1" else ""
    by = "own embedder" if score.judge == EMBEDDER else score.judge
    return f"{words}{whose}" + (f", {by}" if by else "")


def draw_learning_rates(run: Run) -> Chart:
    """The configured learning rate of each network, over the network's own updates."""
    from retroguide_jax.schedule import Schedule
    from retroguide_jax.state import make_schedule

    lines, due = {}, Schedule(run.config)
    for number, name in enumerate(due.networks):
        num = due.count(name)
        updates = np.unique(np.linspace(0, num, 200).astype(int))
        schedule = make_schedule(run.config.optimizer[name], num)
        rates = [float(np.asarray(schedule(update))) for update in updates]
        lines[name] = (number, (updates.tolist(), rates))
    figure = _draw(lines, "update of that network", [], is_legend=True)
    return Chart("learning rate", "Schedule", figure, is_aside=True)


def find_skipped(run: Run) -> list[int]:
    """Logged steps whose logging interval contains updates skipped because they were not finite."""
    steps, totals = run.curves.get("skipped/total", ([], []))
    known = [(step, total) for step, total in zip(steps, totals, strict=True) if total is not None]
    before = [0.0, *(total for _, total in known)]
    return [step for (step, total), last in zip(known, before, strict=False) if total > last]


def _draw(lines: Mapping, x_title: str, skipped, is_legend=False) -> dict:
    traces = []
    for name, (number, (steps, values)) in lines.items():
        traces.append(
            {
                "type": "scatter",
                "mode": "lines" if len(steps) > 1 else "markers",
                "name": escape(name),
                "x": steps,
                "y": values,
                "line": {"width": 2, "color": COLOURS[number % len(COLOURS)]},
                "marker": {"size": 8, "color": COLOURS[number % len(COLOURS)]},
            }
        )
    marks = [
        {
            "type": "line",
            "yref": "paper",
            "x0": step,
            "x1": step,
            "y0": 0,
            "y1": 1,
            "line": {"color": _SKIPPED, "width": 1, "dash": "dot"},
        }
        for step in skipped
    ]
    layout = {
        "xaxis": {"title": {"text": x_title, "standoff": 4}, "rangemode": "tozero"},
        "yaxis": {"nticks": 5},
        "showlegend": is_legend,  # charts that compare runs share one legend above them
        "legend": {"orientation": "h", "yref": "container", "y": 1, "yanchor": "top", "x": 0},
        "margin": {"l": 48, "r": 8, "t": 32 if is_legend else 8, "b": 36},
        "shapes": marks,
    }
    return {"data": traces, "layout": layout}


def _list_ticks(low: float, high: float) -> list[float]:
    """Ticks 1, 2, 5, 10 ... around an interval; by itself Plotly labels minor ones "2" and "5"."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [digit * 10.0**exponent for exponent in exponents for digit in (1, 2, 5)]


def _is_once(runs: Sequence[Run], name: str) -> bool:
    return all(len(run.curves[name][0]) < 2 for run in runs if name in run.curves)


def _place(name: str) -> tuple[int, str]:
    group = name.partition("/")[0]
    order = list(_GROUPS)
    return (order.index(group) if group in order else len(order), name)


def escape(text: str) -> str:
    """Escapes a name or hover text, in which Plotly would interpret some HTML."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
