"""Is A better than B? Paired differences of two per-image files."""

import csv
import dataclasses
import io
from pathlib import Path

import numpy as np

from retroguide_jax.errors import UserError
from retroguide_jax.evaluation import table
from retroguide_jax.evaluation.registry import METRICS, find_metric
from retroguide_jax.files import is_in_bucket
from retroguide_jax.metrics import statistics

PER_IMAGE_DIR = Path("eval") / "per_image"
_RANK = "rank_"


@dataclasses.dataclass(frozen=True)
class PerImage:
    """A per-image file.

    Attributes:
      path: where it lies.
      ids: of its images.
      figures: metric -> float64 [N], over several noises their mean; NaN where not defined. Ranks
        are turned into "r@1..." and "mrr...", which is what averages mean something for.
    """

    path: Path
    ids: list[str]
    figures: dict[str, np.ndarray]


def compare(first: Path, second: Path) -> tuple[str, dict]:
    """Compares A with B image by image.

    The images differ far more among each other than two methods do on one image; differences of
    pairs leave the first out. Both must hold the same images.

    Args:
      first, second: per-image CSV files, or work directories, whose newest such file is taken.

    Returns:
      (table as text; {"metrics": {name: {"a", "b", "difference", "low", "high", "n", "verdict"}}}).

    Raises:
      UserError: a file cannot be read, or they hold other images or no metric in common.
    """
    a, b = _read(_find(first)), _read(_find(second))
    only = sorted(set(a.ids) ^ set(b.ids))
    if only:
        raise UserError(
            f"{a.path} and {b.path} do not hold the same images: {len(only)} are in one only "
            f"({', '.join(only[:5])}); evaluate both on the same split"
        )
    order = {name: row for row, name in enumerate(b.ids)}
    rows = np.array([order[name] for name in a.ids], np.int64)
    shared = [name for name in a.figures if name in b.figures]
    if not shared:
        raise UserError(f"{a.path} and {b.path} have no metric in common; evaluate both alike")
    lines = [("metric", "A", "B", "A - B", "low", "high", "n", "")]
    report = {}
    for name in shared:
        values = a.figures[name], b.figures[name][rows]
        known = np.isfinite(values[0]) & np.isfinite(values[1])
        if not known.any():
            continue
        values = values[0][known], values[1][known]
        found = statistics.compare_paired(*values)
        means = float(np.mean(values[0])), float(np.mean(values[1]))
        entry = {
            "a": means[0],
            "b": means[1],
            "difference": found.difference,
            "low": found.low,
            "high": found.high,
            "n": int(known.sum()),
            "verdict": _judge(name, found.low, found.high),
        }
        report[name] = entry
        cells = (entry[key] for key in ("a", "b", "difference", "low", "high"))
        lines.append((name, *(f"{cell:.4f}" for cell in cells), str(entry["n"]), entry["verdict"]))
    heading = f"A: {a.path}\nB: {b.path}\n"
    return heading + table.align(lines), {
        "a": str(a.path),
        "b": str(b.path),
        "metrics": report,
        "interval": "95 %, paired bootstrap over images",
    }


def _judge(name: str, low: float, high: float) -> str:
    if low <= 0 <= high:
        return "no difference shown"
    better = _better(name)
    if better == "one":
        return "differ"
    return "A is better" if (low > 0) == (better == "higher") else "B is better"


def _better(name: str) -> str:
    metric = find_metric(name)
    if metric is not None:
        return METRICS[metric].better
    return "lower" if name.startswith(("skyline_error", "depth_error", "kl_")) else "higher"


def _find(path: Path) -> Path:
    if not path.is_dir():
        return path
    files = sorted((path / PER_IMAGE_DIR).glob("*.csv"), key=_get_time)
    if not files:
        raise UserError(
            f"{path / PER_IMAGE_DIR}: holds no per-image file; run `retroguide evaluate "
            f"--workdir={path}` first"
        )
    return files[-1]


def _get_time(path: Path) -> float:
    stat = path.stat()
    return stat.mtime if is_in_bucket(path) else stat.st_mtime


def _read(path: Path) -> PerImage:
    try:
        text = path.read_bytes().decode("utf-8")
        names, *rows = csv.reader(io.StringIO(text, newline=""), strict=True)
        if "id" not in names or any(len(row) != len(names) for row in rows):
            raise ValueError("no column id, or lines of different lengths")
        cells = dict(zip(names, zip(*rows, strict=True), strict=bool(rows)))
        ids = list(cells.pop("id", ()))
        numbers = {
            name: np.array([float(cell) if cell else np.nan for cell in column])
            for name, column in cells.items()
        }
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not UTF-8"
        raise UserError(f"{path}: cannot be read: {reason}") from error
    except (csv.Error, ValueError) as error:
        raise UserError(
            f"{path}: is not a per-image file of `retroguide evaluate` ({error})"
        ) from error
    if not ids or len(set(ids)) != len(ids):
        raise UserError(f"{path}: holds no image, or one twice")
    return PerImage(path, ids, _average_noises(numbers))


def _average_noises(numbers: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    grouped: dict[str, list[np.ndarray]] = {}
    for name, values in numbers.items():
        base = name.rpartition("#")[0] or name
        if base.startswith(_RANK):
            kind = base.removeprefix(_RANK)
            grouped.setdefault(f"r@1_{kind}", []).append((values <= 1).astype(np.float64))
            grouped.setdefault(f"mrr_{kind}", []).append(1 / values)
        else:
            grouped.setdefault(base, []).append(values)
    return {name: np.mean(parts, axis=0) for name, parts in grouped.items()}
