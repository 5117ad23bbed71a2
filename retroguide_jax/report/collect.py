"""Reads the files of a work directory into plain data; runs no network."""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from retroguide_jax import files
from retroguide_jax.config import complete_config, config_from_json
from retroguide_jax.errors import UserError
from retroguide_jax.evaluation.compare import PER_IMAGE_DIR
from retroguide_jax.evaluation.results import RESULTS_PATH, read_rows
from retroguide_jax.evaluation.scores import Score, parse_scores
from retroguide_jax.files import make_absolute, relocate, to_path
from retroguide_jax.provenance import STARTS_PATH

_METRICS_FILE = "metrics.jsonl"
# Fields of a ledger row that the page shows, with their types.
_ROW_FIELDS = (
    {
        "step": int,
        "split": str,
        "time": str,
        "seconds": float,
        "seed": int,
        "num_noises": int,
        "weights": str,
        "protocol_hash": str,
    }
    | dict.fromkeys(("metrics", "machine", "protocol", "judges"), dict)
    | {"absent": list}
)
_START_FIELDS = {"time": str, "step": int, "command": str, "machine": dict}


@dataclasses.dataclass(frozen=True)
class Run:
    """The contents of a work directory.

    Attributes:
      workdir: of a `retroguide train` run.
      name: the last part of its path, or as much of the path as distinguishes compared runs.
      config: resolved, newer fields at their defaults.
      curves: metric -> ([step], [value]); a value that is not finite is None.
      starts: each start or resume of the training, oldest first: {"time", "step", "command",
        "machine"}.
      rows: ledger rows of the newest evaluated step, one per protocol, oldest first; those of the
        test split if it has any, else those of the split that was evaluated last.
      scores: "metrics" of all `rows`, merged; the newer value of a score measured twice.
      is_finished: whether training has ended.
      problems: one sentence per file or line that could not be read.
    """

    workdir: Path
    name: str
    config: ConfigDict
    curves: Mapping[str, tuple[list[int], list[float | None]]]
    starts: list[dict[str, Any]]
    rows: list[dict[str, Any]]
    scores: Mapping[Score, dict[str, Any]]
    is_finished: bool
    problems: list[str]

    @property
    def step(self) -> int:
        """The last step in the curves or the ledger; 0 if both are empty."""
        trained = max((steps[-1] for steps, _ in self.curves.values()), default=0)
        return max(trained, self.evaluated_step)

    @property
    def evaluated_step(self) -> int:
        """Step of `rows`; 0 without rows."""
        return int(self.rows[-1]["step"]) if self.rows else 0

    @property
    def has_generator(self) -> bool:
        """False for an embedder trained on its own."""
        return self.config.mode != "contrastive"

    def find_per_image(self, protocol: str) -> Path | None:
        """The per-image file of the row with this protocol digest; None if it no longer exists."""
        path = self.workdir / PER_IMAGE_DIR / f"step_{self.evaluated_step:06d}_{protocol}.csv"
        return path if path.exists() else None


def open_run(workdir: str | Path) -> Run:
    """Reads the files that exist; a run that has only just begun has nothing but a config.

    Raises:
      UserError: this is no work directory, or a file cannot be read.
    """
    workdir = to_path(workdir)
    path = workdir / "config.json"
    if not path.exists():
        raise UserError(
            f"{workdir}: is no work directory (there is no config.json in it); "
            "make one with `retroguide train`"
        )
    config = complete_config(config_from_json(_read(path)))
    curves, problems = _read_curves(workdir / _METRICS_FILE)
    starts = [row for row in files.read_rows(workdir / STARTS_PATH) if _has(row, _START_FIELDS)]
    every_row = [row for row in read_rows(workdir) if _is_row(row)]
    num_lines = sum(bool(line.strip()) for line in _read(workdir / RESULTS_PATH).splitlines())
    if num_lines > len(every_row):
        problems.append(f"{RESULTS_PATH}: {num_lines - len(every_row)} lines are no rows")
    rows = _take_newest(every_row, config.data.test_split)
    scores = {}
    for row in rows:
        scores |= parse_scores(row["metrics"])
    name = make_absolute(workdir).name or str(workdir)
    is_finished = (workdir / "finished.json").exists()
    return Run(workdir, name, config, curves, starts, rows, scores, is_finished, problems)


def find_judges(run: Run) -> dict[str, Path]:
    """Name -> work directory of the independent judges in `run.rows`, if it still exists.

    Raises:
      UserError: one of them lies in a bucket that cannot be reached.
    """
    paths = {
        name: relocate(judge["workdir"], run.workdir)
        for row in run.rows
        for name, judge in row["judges"].items()
        if isinstance(judge, dict) and isinstance(judge.get("workdir"), str)
    }
    return {name: path for name, path in paths.items() if (path / "config.json").exists()}


def name_apart(runs: list[Run]) -> list[Run]:
    """Returns the runs; those of equal names are renamed after their paths."""
    names = [run.name for run in runs]
    return [
        dataclasses.replace(run, name=str(run.workdir)) if names.count(run.name) > 1 else run
        for run in runs
    ]


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8", "replace") if path.exists() else ""
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error


def _read_curves(path: Path) -> tuple[dict[str, tuple[list, list]], list[str]]:
    curves: dict[str, tuple[list, list]] = {}
    bad = []
    for number, line in enumerate(_read(path).splitlines(), 1):
        try:
            row = json.loads(line)
            step = int(row.pop("step"))
            values = {name: float(value) for name, value in row.items()}
        except (ValueError, TypeError, KeyError, AttributeError):
            bad.append(str(number))
            continue
        for name, value in values.items():
            steps, column = curves.setdefault(name, ([], []))
            steps.append(step)
            column.append(value if math.isfinite(value) else None)
    named = ", ".join(bad[:10]) + (" ..." if len(bad) > 10 else "")
    return curves, [f"{path.name}: {len(bad)} lines are damaged: {named}"] if bad else []


def _is_row(row: Mapping[str, Any]) -> bool:
    return _has(row, _ROW_FIELDS) and all(
        isinstance(entry, dict) and {"value", "n"} <= entry.keys()
        for entry in row["metrics"].values()
    )


def _has(row: Mapping[str, Any], fields: Mapping[str, type]) -> bool:
    return all(isinstance(row.get(name), kind) for name, kind in fields.items())


def _take_newest(rows: list[dict], test_split: str) -> list[dict]:
    if not rows:
        return []
    last = rows[-1]
    alike = [row for row in rows if all(row[key] == last[key] for key in ("step", "weights"))]
    # The pictures show the test split, so prefer its scores.
    split = test_split if any(row["split"] == test_split for row in alike) else last["split"]
    alike = [row for row in alike if row["split"] == split]
    newest = {row["protocol_hash"]: row for row in alike}
    return [row for row in alike if newest[row["protocol_hash"]] is row]
