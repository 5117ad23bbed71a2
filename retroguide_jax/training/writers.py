"""Where a run's numbers go: JSON lines always, TensorBoard event files beside, fetched late."""

import json
import math
import os
from pathlib import Path

import numpy as np


class MetricWriter:
    """Writes scalars to WORKDIR/metrics.jsonl and WORKDIR/events.

    Args:
      workdir: created if missing.
      resume_step: rows after it, written by a run that was killed before its next checkpoint, are
        dropped, so that every step stands in the file once.
    """

    def __init__(self, workdir: Path, resume_step: int):
        from tensorboardX import SummaryWriter

        path = workdir / "metrics.jsonl"
        if path.exists():
            kept = [line for line in path.read_text().splitlines() if _step(line) <= resume_step]
            beside = path.with_suffix(".jsonl.tmp")
            beside.write_text("".join(f"{line}\n" for line in kept))
            os.replace(beside, path)
        self._file = path.open("a")
        self._events = SummaryWriter(str(workdir / "events"), purge_step=resume_step + 1)

    def write(self, step: int, scalars: dict[str, float]) -> None:
        """Appends one row {"step", name: value}; NaN, a value not computed, is left out."""
        present = {name: value for name, value in scalars.items() if not math.isnan(value)}
        self._file.write(json.dumps({"step": step, **present}) + "\n")
        self._file.flush()
        for name, value in present.items():
            self._events.add_scalar(name, value, step)

    def close(self) -> None:
        """Flushes and closes both files."""
        self._file.close()
        self._events.close()


def _step(line: str) -> float:
    """The row's step, or infinity for a line that was cut off while being written."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return math.inf


def average_metrics(rows: list[dict[str, np.ndarray]]) -> dict[str, float]:
    """Each name's mean over the steps that computed it, else NaN; counters give their last value.

    Args:
      rows: one {name: scalar} a step, NaN where a step did not compute a term; counters are the
        names that begin with `skipped/`.
    """
    means = {}
    for name in rows[0]:
        values = np.array([row[name] for row in rows], np.float64)
        known = values[~np.isnan(values)]
        if name.startswith("skipped/"):
            means[name] = float(values[-1])
        else:
            means[name] = float(known.mean()) if known.size else math.nan
    return means
