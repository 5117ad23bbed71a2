"""The results file of a work directory and the table on screen."""

import contextlib
import datetime
import json
import os
from pathlib import Path
from typing import Any

from retroguide_jax.errors import UserError

RESULTS_PATH = Path("eval") / "results.jsonl"


def append_row(workdir: str | os.PathLike, row: dict[str, Any]) -> Path:
    """Appends `row` as one JSON line to W/eval/results.jsonl and returns the file's path.

    The line goes out in a single O_APPEND write and is synced before this returns, so that rows
    of jobs running side by side never mix. A part of a line left by a full disk or a killed job is
    closed with a line break first: it spoils itself only.

    Raises:
        UserError: the file cannot be written whole.
        ValueError: `row` holds NaN or infinity, which JSON has no form for.
    """
    line = json.dumps(row, allow_nan=False) + "\n"
    path = Path(workdir) / RESULTS_PATH
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


def format_time() -> str:
    """The present moment in UTC, ISO 8601, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def write_json(path: str | os.PathLike, row: dict[str, Any]) -> None:
    """Writes `row` as an indented JSON file, beside its place first and then renamed.

    Raises:
        UserError: the file cannot be written.
    """
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(json.dumps(row, indent=2, allow_nan=False) + "\n")
        os.replace(beside, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise UserError(f"{path}: cannot be written: {error.strerror}") from error


def format_table(row: dict[str, Any]) -> str:
    """The row as aligned text: each metric beside its floors and its ceiling.

    Columns: the generated images; the floors `shuffled` (the image generated from another source)
    and `mean image` (the training set's mean, for every source); the ceiling `real` (what the real
    images score). Metrics that could not be computed follow with their reason.
    """
    lines = [("metric", "generated", "shuffled", "mean image", "real", "n")]
    for name in _list_base_names(row["metrics"]):
        generated, *references = _list_variants(name)
        cells = [row["metrics"].get(variant) for variant in (generated, *references)]
        values = ["-" if cell is None else f"{cell['value']:.4f}" for cell in cells]
        if name in _PERFECT_SCORES:
            values[-1] = f"{_PERFECT_SCORES[name]:.4f}"
        lines.append((name, *values, str(next(cell["n"] for cell in cells if cell))))
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    text = [
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]
    text.insert(1, "  ".join("-" * width for width in widths))
    absent = [f"absent: {entry['name']}: {entry['reason']}" for entry in row["absent"]]
    return "\n".join(text + absent)


# By definition, real images compared with themselves score this. (PSNR would be infinite.)
_PERFECT_SCORES = {"ssim_rgb": 1.0, "sharpness_ratio": 1.0, "sky_spread_ratio": 1.0}
_SUFFIXES = ("_generated", "_shuffled", "_mean_image", "_real")


def _list_base_names(names: list[str]) -> list[str]:
    """Metric names without the part that says what was scored, in order, each once."""
    bases = {}
    for name in names:
        stem, slash, judge = name.partition("/")
        for suffix in _SUFFIXES:
            stem = stem.removesuffix(suffix)
        bases[stem + slash + judge] = None
    return list(bases)


def _list_variants(base: str) -> tuple[str, str, str, str]:
    """Names of a metric on generated, shuffled, mean and real images."""
    stem, slash, judge = base.partition("/")
    generated, shuffled, mean, real = (stem + suffix + slash + judge for suffix in _SUFFIXES)
    return (generated if slash else base), shuffled, mean, real
