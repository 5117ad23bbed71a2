"""From a work directory to what its files say, as plain data; no network is run."""

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
# Of a row of the ledger, those that the page shows.
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
    """What a work directory says of itself.

    Attributes:
      workdir: of a `retroguide train` run.
      name: its last part, or as much of its path as tells compared runs apart.
      config: resolved, newer fields at their defaults.
      curves: metric -> ([step], [value]); a value that is not finite is None.
      starts: of the training, oldest first: {"time", "step", "command", "machine"}.
      rows: of the ledger, those of the newest evaluated step, one a protocol, oldest first; of the
        test split if there are such, else of the split that was evaluated last.
      scores: their "metrics" together; of a score measured twice the newer.
      is_finished: whether training has ended.
      problems: what could not be read, a sentence each.
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
        """The last step that anything is known of; 0 where nothing is."""
        trained = max((steps[-1] for steps, _ in self.curves.values()), default=0)
        return max(trained, self.evaluated_step)

    @property
    def evaluated_step(self) -> int:
        """Step of `rows`; 0 without."""
        return int(self.rows[-1]["step"]) if self.rows else 0

    @property
    def has_generator(self) -> bool:
        """False for an embedder trained on its own."""
        return self.config.mode != "contrastive"

    def find_per_image(self, protocol: str) -> Path | None:
        """The per-image file of `rows` under a protocol's digest, if it is still there."""
        path = self.workdir / PER_IMAGE_DIR / f"step_{self.evaluated_step:06d}_{protocol}.csv"
        return path if path.exists() else None


def open_run(workdir: str | Path) -> Run:
    """Reads what there is; a run that has only begun has a config and nothing else.

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
    whole = [row for row in read_rows(workdir) if _is_whole(row)]
    num_lines = sum(bool(line.strip()) for line in _read(workdir / RESULTS_PATH).splitlines())
    if num_lines > len(whole):
        problems.append(f"{RESULTS_PATH}: {num_lines - len(whole)} lines are no rows")
    rows = _take_newest(whole, config.data.test_split)
    scores = {}
    for row in rows:
        scores |= parse_scores(row["metrics"])
    name = make_absolute(workdir).name or str(workdir)
    is_finished = (workdir / "finished.json").exists()
    return Run(workdir, name, config, curves, starts, rows, scores, is_finished, problems)


def find_judges(run: Run) -> dict[str, Path]:
    """Name -> work directory of the independent judges of its rows that are still there.

    Raises:
      UserError: one lies in a bucket that cannot be reached.
    """
    paths = {
        name: relocate(judge["workdir"], run.workdir)
        for row in run.rows
        for name, judge in row["judges"].items()
        if isinstance(judge, dict) and isinstance(judge.get("workdir"), str)
    }
    return {name: path for name, path in paths.items() if (path / "config.json").exists()}


def name_apart(runs: list[Run]) -> list[Run]:
    """The runs, those of equal names renamed after their paths."""
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


def _is_whole(row: Mapping[str, Any]) -> bool:
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
    # The pictures are of the test split; scores beside them should be so too.
    split = test_split if any(row["split"] == test_split for row in alike) else last["split"]
    alike = [row for row in alike if row["split"] == split]
    newest = {row["protocol_hash"]: row for row in alike}
    return [row for row in alike if newest[row["protocol_hash"]] is row]
