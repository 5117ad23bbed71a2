"""Records of the updates that were skipped because a loss or gradient was not finite."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from retroguide_jax.errors import UserError
from retroguide_jax.files import write_beside
from retroguide_jax.parallel.processes import is_writer
from retroguide_jax.progress import print_line
from retroguide_jax.schedule import Schedule

_MOST_FILES = 10
# Metric prefix of each network, to attribute a skipped update. `d/penalty` is ignored: it is NaN
# whenever the lazy penalty is not due.
_PREFIXES = {
    "contrastive/": "embedder",
    "d/": "discriminator",
    "g/": "generator",
    "structure/": "generator",
}
_LAZY = ("d/penalty",)


class DivergedError(UserError):
    """`config.train.max_nonfinite` updates in a row were not finite.

    Attributes:
      cause: the error message without advice.
    """

    def __init__(self, workdir: Path, config: ConfigDict, streak: int, networks: list[str]):
        self.cause = f"{workdir}: the last {streak} updates were not finite: the run has diverged"
        lower = " ".join(
            f"--config.optimizer.{name}.learning_rate={config.optimizer[name].learning_rate / 2:g}"
            for name in networks
        )
        fields = ",".join(f"optimizer.{name}.learning_rate" for name in networks)
        super().__init__(
            f"{self.cause}; run the same command again with lower learning rates ({lower} "
            f"--allow_change={fields}), or with --config.train.max_rollbacks="
            f"{config.train.max_rollbacks + 1} to go back to the last good checkpoint, or start "
            "again in another --workdir"
        )


class SkippedUpdates:
    """Finds skipped updates in the metrics of an interval, and records the first few in files.

        WORKDIR/nonfinite/step_XXXXXX.json    {step, networks, batch, ids, metrics}

    Args:
      workdir: the run's work directory.
      schedule: the run's, which says at which steps batches are drawn.
      ids_fn: number of a global batch, from 0 -> the ids of its examples.
    """

    def __init__(self, workdir: Path, schedule: Schedule, ids_fn: Callable[[int], list[str]]):
        self._folder, self._schedule, self._ids_fn = workdir / "nonfinite", schedule, ids_fn
        self._total, self._ahead = 0, 0

    def begin(self, step: int, position: int, total: int) -> None:
        """Sets the position of the run, at its start and after each roll-back.

        Args:
          step: updates done.
          position: number of the batch of the next step.
          total: updates skipped so far.
        """
        self._total, self._ahead = total, position - self._schedule.count_batches(step + 1)

    def report(self, last_step: int, rows: list[dict[str, np.ndarray]]) -> list[str]:
        """Records skipped updates in files and reports them on stderr.

        Args:
          last_step: the step of the last row.
          rows: the metrics of consecutive steps.

        Returns:
          The networks that caused the last skipped update; [] if none was skipped.

        Raises:
          UserError: a file cannot be written.
        """
        culprits = []
        for step, row in enumerate(rows, last_step - len(rows) + 1):
            total = int(row["skipped/total"])
            if total > self._total:
                culprits = name_culprits(row)
                if is_writer():
                    self._write(step, row, culprits)
            self._total = total
        return culprits

    def _write(self, step: int, row: dict[str, np.ndarray], networks: list[str]) -> None:
        text = f"warning: step {step}: an update was skipped, not finite: {', '.join(networks)}"
        path = self._folder / f"step_{step:06d}.json"
        if len(list(self._folder.glob("*.json"))) >= _MOST_FILES:
            print_line(f"{text}; {self._folder} holds {_MOST_FILES} files, no more")
            return
        batch = self._schedule.count_batches(step) + self._ahead
        content = {
            "step": step,
            "networks": networks,
            "batch": batch,
            "ids": self._ids_fn(batch),
            "metrics": {name: _to_json(value) for name, value in sorted(row.items())},
        }
        with write_beside(path) as beside:
            beside.write_text(json.dumps(content, indent=2) + "\n")
        print_line(f"{text}; its batch and norms: {path}")


def name_culprits(row: dict[str, Any]) -> list[str]:
    """The networks whose loss or gradient was not finite in a step, from its metrics."""
    certain, possible = [], []
    for prefix, network in _PREFIXES.items():
        values = {name: value for name, value in row.items() if name.startswith(prefix)}
        if all(math.isfinite(value) for name, value in values.items() if name not in _LAZY):
            continue
        possible.append(network)
        # An update that was not due in this step has NaN for the norm of its parameters too.
        if not math.isnan(values[f"{prefix}param_norm"]):
            certain.append(network)
    return certain or possible


def _to_json(value: np.ndarray) -> float | str:
    """The value as a number, or as text if it is not finite, which JSON cannot express."""
    number = float(value)
    return number if math.isfinite(number) else str(number)
