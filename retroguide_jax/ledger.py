"""JSON lines that only grow, and that jobs side by side or a killed one do not spoil."""

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from retroguide_jax.errors import UserError
from retroguide_jax.files import write_beside
from retroguide_jax.paths import is_in_bucket, to_path


def append_row(path: str | os.PathLike, row: dict[str, Any]) -> Path:
    """Appends `row` as one JSON line to a file, made if missing, and returns its path.

    The line goes out in a single O_APPEND write and is synced before this returns, so that rows
    of jobs running side by side never mix. A part of a line left by a full disk or a killed job is
    closed with a line break first: it spoils itself only. In a bucket the file is read and written
    anew with the row at its end: of two jobs that end in the same moment one row may be lost.

    Raises:
        UserError: the file cannot be written whole.
        ValueError: `row` holds NaN or infinity, which JSON has no form for.
    """
    line = json.dumps(row, allow_nan=False) + "\n"
    path = to_path(path)
    if is_in_bucket(path):
        known = path.read_text() if path.exists() else ""
        with write_beside(path) as beside:
            beside.write_text(known + line)
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


def read_rows(path: str | os.PathLike) -> list[dict[str, Any]]:
    """The whole rows of a file, oldest first; [] where there is no such file.

    A line that a killed job left half-written is passed over: its row was never there. A
    row of which only the line break is missing is whole, and `append_row` adds that.

    Raises:
      UserError: the file cannot be read.
    """
    path = to_path(path)
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
