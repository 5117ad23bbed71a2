"""Embeddings of a split projected to a plane, as a Plotly figure in plain dictionaries."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from retroguide_jax.report.curves import escape
from retroguide_jax.report.pictures import SCALE

MOST_PAIRS = 100  # drawn at most: more points hide each other


@dataclasses.dataclass(frozen=True)
class Cloud:
    """Embeddings of pairs, to be projected to a plane.

    Attributes:
      ids: str, N.
      source, target, generated: [N, D]; `generated` is None without a generator.
      colours: one number per pair.
      meaning: of these numbers.
    """

    ids: Sequence[str]
    source: np.ndarray
    target: np.ndarray
    generated: np.ndarray | None
    colours: Sequence[float]
    meaning: str


def draw_map(cloud: Cloud) -> dict[str, Any]:
    """The first 100 pairs along the two principal axes of all embeddings, joined by lines.

    Principal component analysis by singular value decomposition of the centred rows.
    """
    sets = {"source": cloud.source, "real target": cloud.target, "generated": cloud.generated}
    sets = {name: rows for name, rows in sets.items() if rows is not None}
    rows = np.concatenate(list(sets.values())).astype(np.float64)
    mean = rows.mean(axis=0)
    _, singular, axes = np.linalg.svd(rows - mean, full_matrices=False)
    shares = singular**2 / np.sum(singular**2)
    num = min(MOST_PAIRS, len(cloud.ids))
    points = {name: (values[:num] - mean) @ axes[:2].T for name, values in sets.items()}
    ends = [points["source"], points["real target"], np.full((num, 2), np.nan)]
    lines = np.stack(ends, axis=1).reshape(-1, 2)
    traces = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": "pair",
            "hoverinfo": "skip",
            "line": {"width": 1, "color": "rgba(128,128,128,0.6)"},
            **_columns(lines),
        }
    ]
    symbols = {"source": "square", "real target": "circle", "generated": "cross"}
    for name, values in points.items():
        marker = {
            "symbol": symbols[name],
            "size": 7,
            "color": list(cloud.colours[:num]),
            "colorscale": [[k / (len(SCALE) - 1), colour] for k, colour in enumerate(SCALE)],
            "line": {"width": 0.5, "color": "rgba(128,128,128,0.9)"},
        }
        if name == "source":
            bar = {"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom"}
            marker |= {"showscale": True, "colorbar": bar | {"thickness": 10}}
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": name,
                "text": [f"{escape(id_)} ({name})" for id_ in cloud.ids[:num]],
                "hoverinfo": "text",
                "marker": marker,
                **_columns(values),
            }
        )
    layout = {
        "xaxis": {
            "title": {"text": f"component 1 ({shares[0]:.1%} of the variance)"},
            "constrain": "domain",
        },
        "yaxis": {
            "title": {"text": f"component 2 ({shares[1]:.1%})"},
            "scaleanchor": "x",
            "constrain": "domain",
        },
        "legend": {"orientation": "h", "yref": "container", "y": 1, "yanchor": "top", "x": 0},
        "margin": {"l": 56, "r": 8, "t": 48, "b": 96},
    }
    return {"data": traces, "layout": layout}


def _columns(points: np.ndarray) -> dict[str, list[float | None]]:
    x, y = ([None if math.isnan(v) else round(v, 5) for v in column] for column in points.T)
    return {"x": x, "y": y}
