"""The files of an evaluation: the ledger of a work directory, JSON, one line an image."""

import contextlib
import csv
import datetime
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from retroguide_jax.errors import UserError
from retroguide_jax.files import write_beside
from retroguide_jax.paths import is_in_bucket, to_path

RESULTS_PATH = Path("eval") / "results.jsonl"


def append_row(workdir: str | os.PathLike, row: dict[str, Any]) -> Path:
    """Appends `row` as one JSON line to W/eval/results.jsonl and returns the file's path.

    The line goes out in a single O_APPEND write and is synced before this returns, so that rows
    of jobs running side by side never mix. A part of a line left by a full disk or a killed job is
    closed with a line break first: it spoils itself only. In a bucket the file is read and written
    anew with the row at its end: of two jobs that end in the same moment one row may be lost.

    Raises:
        UserError: the file cannot be written whole.
        ValueError: `row` holds NaN or infinity, which JSON has no form for.
    """
    line = json.dumps(row, allow_nan=False) + "\n"
    path = to_path(workdir) / RESULTS_PATH
    if is_in_bucket(path):
        known = path.read_text() if path.exists() else ""
        _write_text(path, known + line)
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            size = os.fstat(file).st_size
            if size and os.pread(file, 1, size - 1) != b"\n":
                line = "\n" + line
            data = line.encode()
            if os.write(file, data) != len(data):
                raise UserError(f"{path}: the row was not written whole; is the disk full?")
            os.fsync(file)
        finally:
            os.close(file)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from error
    return path


def read_rows(workdir: str | os.PathLike) -> list[dict[str, Any]]:
    """The whole rows of W/eval/results.jsonl, oldest first; [] where there is no such file.

    A line that a killed job left half-written is passed over: its row was never in the ledger. A
    row of which only the line break is missing is whole, and `append_row` adds that.

    Raises:
      UserError: the file cannot be read.
    """
    path = to_path(workdir) / RESULTS_PATH
    try:
        lines = path.read_bytes().split(b"\n") if path.exists() else []
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    rows = []
    for line in lines:
        with contextlib.suppress(ValueError):
            row = json.loads(line)
            if isinstance(row, dict):
                rows.append(row)
    return rows


def format_time() -> str:
    """The present moment in UTC, ISO 8601, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def write_json(path: str | os.PathLike, row: dict[str, Any]) -> None:
    """Writes `row` as an indented JSON file, beside its place first and then renamed.

    Raises:
        UserError: the file cannot be written.
    """
    _write_text(path, json.dumps(row, indent=2, allow_nan=False) + "\n")


def _write_text(path: str | os.PathLike, text: str) -> None:
    with write_beside(path) as beside:
        beside.write_text(text)


def write_per_image(path: str | os.PathLike, columns: Mapping[str, np.ndarray]) -> None:
    """Writes one line an image as CSV, beside its place first and then renamed.

    Args:
      path: of the file.
      columns: "id" str [N], then figures [N], or [N, K] for K noises: these become K columns
        NAME#0, NAME#1 and so on. A figure that is not defined is an empty cell, an infinite "inf".

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
    writer.writerow(named)
    for row in zip(*(values.tolist() for values in named.values()), strict=True):
        writer.writerow(["" if cell != cell else cell for cell in row])
    _write_text(path, buffer.getvalue())
