"""Tables of a page: scores of one or several runs, and the config fields that are not default."""

from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from retroguide_jax.config import load_config
from retroguide_jax.errors import UserError
from retroguide_jax.evaluation.compare import compare
from retroguide_jax.evaluation.registry import METRICS, find_direction, find_metric
from retroguide_jax.evaluation.scores import VARIANTS, Score
from retroguide_jax.evaluation.table import find_count, group_variants
from retroguide_jax.report.collect import Run


def make_scores_table(scores: Mapping[Score, dict[str, Any]]) -> list[dict[str, Any]]:
    """One line per metric: {"metric", "text": a description, "cells": [str], "num"}.

    The cells: generated, interval, standard deviation over noises, image of another source, mean
    image, real; "" where there is none.
    """
    lines = []
    for score, variants in group_variants(scores).items():
        main = variants.get("generated", {})
        others = [write(variants.get(name, {}).get("value")) for name in VARIANTS[1:]]
        cells = [_write_main(main), _write_interval(main), write(main.get("noise_std")), *others]
        lines.append(
            {
                "metric": score.label,
                "text": _describe(score),
                "cells": cells,
                "num": find_count(variants),
            }
        )
    return lines


def make_comparison(runs: Sequence[Run]) -> tuple[list[dict[str, Any]], list[str]]:
    """One line per metric: scores of all runs, paired differences of the first to the others.

    Returns:
      ([{"metric", "text", "cells": [(value, interval)] per run, "paired": [(difference, interval,
      verdict)] per further run, empty strings where unknown}], notes on runs that could not be
      compared image by image).
    """
    first, *others = runs
    paired, notes = [], []
    for other in others:
        found, note = _compare(first, other)
        paired.append(found)
        notes += [note] if note else []
    grouped = [group_variants(run.scores) for run in runs]
    lines = []
    for score in dict.fromkeys(score for of_run in grouped for score in of_run):
        mains = [of_run.get(score, {}).get("generated", {}) for of_run in grouped]
        if any(mains):
            entries = [found.get(score.text) for found in paired]
            lines.append(
                {
                    "metric": score.label,
                    "text": _describe(score),
                    "cells": [(_write_main(main), _write_interval(main)) for main in mains],
                    "paired": [_write_pair(entry) for entry in entries],
                }
            )
    return lines, notes


def list_differences(config: ConfigDict) -> list[tuple[str, str, str]]:
    """(field, value, default) of each field that is not as in configs/default.py."""
    default, own = (_flatten(tree) for tree in (load_config("default").to_dict(), config.to_dict()))
    return [
        (name, repr(value), repr(default[name]) if name in default else "(no such field)")
        for name, value in sorted(own.items())
        if value != default.get(name)
    ]


def write(value: float | None) -> str:
    """A value with two decimals from 10 on, else four; "" for None."""
    if value is None:
        return ""
    return f"{value:.2f}" if abs(value) >= 10 else f"{value:.4f}"


def _describe(score: Score) -> str:
    known = find_metric(score)
    if known is None:
        return ""
    entry = METRICS[known]
    better = {"higher": "higher is better", "lower": "lower is better", "one": "best at 1"}
    return f"{entry.text}{f', {entry.unit}' if entry.unit else ''}; {better[find_direction(score)]}"


def _write_main(entry: Mapping[str, Any]) -> str:
    return "infinite" if "infinite" in entry else write(entry.get("value"))


def _write_interval(entry: Mapping[str, Any]) -> str:
    low, high = entry.get("low"), entry.get("high")
    return "" if low is None or high is None else f"{write(low)} to {write(high)}"


def _write_pair(entry: Mapping[str, Any] | None) -> tuple[str, str, str]:
    if entry is None:
        return "", "", ""
    first, *_ = verdict = entry["verdict"]
    is_better = verdict in ("A is better", "B is better")
    words = {"A": "this run is better", "B": "the other is better"}[first] if is_better else verdict
    return f"{entry['difference']:+.4f}", _write_interval(entry), words


def _compare(first: Run, other: Run) -> tuple[dict[str, Any], str]:
    """(differences under all protocols that both runs share, the reason if there are none)."""
    found = {}
    protocols = [{row.get("protocol_hash") for row in run.rows} for run in (first, other)]
    for protocol in sorted(filter(None, protocols[0] & protocols[1])):
        files = first.find_per_image(protocol), other.find_per_image(protocol)
        if files[0] is None or files[1] is None:
            continue
        try:
            found |= compare(files[0], files[1])[1]["metrics"]
        except UserError as error:
            return {}, str(error)
    note = (
        f"{first.name} and {other.name} cannot be compared image by image: they have no per-image "
        "files of one protocol; evaluate both alike"
    )
    return found, "" if found else note


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
