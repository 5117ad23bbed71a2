"""The files of an evaluation: the ledger of a work directory, JSON, and CSV with per-image rows."""

import csv
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from retroguide_jax import files
from retroguide_jax.files import to_path, write_beside

PROTOCOL = "protocol"  # the column of a per-image file that holds the protocol
RESULTS_PATH = Path("eval") / "results.jsonl"


def append_row(workdir: str | os.PathLike, row: dict[str, Any]) -> Path:
    """Appends `row` to W/eval/results.jsonl by `files.append_row` and returns the file's path."""
    return files.append_row(to_path(workdir) / RESULTS_PATH, row)


def read_rows(workdir: str | os.PathLike) -> list[dict[str, Any]]:
    """The rows of W/eval/results.jsonl by `files.read_rows`."""
    return files.read_rows(to_path(workdir) / RESULTS_PATH)


def write_json(path: str | os.PathLike, row: dict[str, Any]) -> None:
    """Writes `row` as an indented JSON file: to a temporary name, then renamed.

    Raises:
      UserError: the file cannot be written.
    """
    _write_text(path, json.dumps(row, indent=2, allow_nan=False) + "\n")


def _write_text(path: str | os.PathLike, text: str) -> None:
    with write_beside(path) as beside:
        beside.write_text(text)


def write_per_image(
    path: str | os.PathLike, columns: Mapping[str, np.ndarray], row: Mapping[str, Any]
) -> None:
    """Writes one line per image as CSV: to a temporary name, then renamed.

    The first line of the last column, "protocol", holds the protocol of the scores as JSON, so that
    a file that was moved is still compared only with files of a compatible protocol.

    Args:
      path: of the file.
      columns: "id" str [N], then scores [N], or [N, K] for K noises: these become K columns
        NAME#0, NAME#1 and so on. An undefined score is an empty cell, an infinite one "inf".
      row: of `Job.score`: its "protocol" and "real_images" are written.

    Raises:
      UserError: the file cannot be written.
    """
    named = {}
    for name, values in columns.items():
        if values.ndim == 1:
            named[name] = values
        else:
            named |= {f"{name}#{k}": values[:, k] for k in range(values.shape[1])}
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([*named, PROTOCOL])
    described = json.dumps({**row["protocol"], "real_images": row["real_images"]}, sort_keys=True)
    for cells in zip(*(values.tolist() for values in named.values()), strict=True):
        writer.writerow([*("" if cell != cell else cell for cell in cells), described])
        described = ""
    _write_text(path, buffer.getvalue())
