"""Writers of a run's metrics: JSON lines and TensorBoard event files."""

import json
import math
import tempfile
import time
from pathlib import Path

import numpy as np

from retroguide_jax.files import is_in_bucket, put, write_beside

_PUT_SECONDS = 60  # between two uploads to a bucket


class MetricWriter:
    """Writes scalars to WORKDIR/metrics.jsonl and WORKDIR/events.

    Files in a bucket cannot be appended to: for a bucket, both are written to a local folder and
    uploaded in full once a minute, at every checkpoint and at the end. A killed run loses the rows
    since the last upload, which the resumed run writes again.

    Attributes:
      events_folder: the local folder of TensorBoard's files, to which other code may write too.

    Args:
      workdir: created if missing.
      resume_step: rows after it, written by a run that was killed before its next checkpoint, are
        dropped, so that every step is in the file once.
    """

    def __init__(self, workdir: Path, resume_step: int):
        from tensorboardX import SummaryWriter

        self._workdir, self._scratch, folder = workdir, None, workdir
        if is_in_bucket(workdir):
            self._scratch = tempfile.TemporaryDirectory()
            folder = Path(self._scratch.name)
        path = workdir / "metrics.jsonl"
        if path.exists():
            kept = [line for line in path.read_text().splitlines() if _step(line) <= resume_step]
            with write_beside(folder / path.name) as beside:
                beside.write_text("".join(f"{line}\n" for line in kept))
        self._file = (folder / path.name).open("a")
        self.events_folder = folder / "events"
        self._events = SummaryWriter(str(self.events_folder), purge_step=resume_step + 1)
        self._last_put = time.monotonic()

    def write(self, step: int, scalars: dict[str, float]) -> None:
        """Appends one row {"step", name: value}, without NaN (a value that was not computed) and
        infinity, which JSON cannot express."""
        present = {name: value for name, value in scalars.items() if math.isfinite(value)}
        self._file.write(json.dumps({"step": step, **present}) + "\n")
        self._file.flush()
        for name, value in present.items():
            self._events.add_scalar(name, value, step)
        if time.monotonic() - self._last_put > _PUT_SECONDS:
            self.put()

    def put(self) -> None:
        """Uploads the files to a work directory in a bucket; does nothing for one on disk.

        Raises:
          UserError: the bucket cannot be written to.
        """
        self._last_put = time.monotonic()
        if self._scratch is None:
            return
        self._events.flush()
        folder = Path(self._scratch.name)
        for path in (path for path in folder.rglob("*") if path.is_file()):
            put(path, self._workdir / path.relative_to(folder))

    def close(self) -> None:
        """Flushes and closes both files."""
        self._file.close()
        self._events.close()
        self.put()
        if self._scratch is not None:
            self._scratch.cleanup()


def _step(line: str) -> float:
    """The row's step, or infinity for a line that was cut off while being written."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return math.inf


def average_metrics(rows: list[dict[str, np.ndarray]]) -> dict[str, float]:
    """Each name's mean over the steps that computed it, else NaN; for counters, the last value.

    Args:
      rows: one {name: scalar} per step, NaN where a step did not compute a term; counters are the
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
