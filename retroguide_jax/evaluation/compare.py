"""Is A better than B? Paired differences of two per-image files."""

import csv
import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from retroguide_jax.errors import UserError
from retroguide_jax.evaluation import results, table
from retroguide_jax.evaluation.protocol import find_differences
from retroguide_jax.evaluation.registry import find_direction, find_metric
from retroguide_jax.evaluation.scores import Score
from retroguide_jax.files import is_in_bucket
from retroguide_jax.metrics import statistics

PER_IMAGE_DIR = Path("eval") / "per_image"


@dataclasses.dataclass(frozen=True)
class PerImage:
    """A per-image file.

    Attributes:
      path: of the file.
      ids: of its images.
      scores: key -> float64 [N], the mean over the noises; NaN where undefined. Ranks are
        converted to "r@1" and "mrr", which can be averaged.
      protocol: of the scores, see `results.write_per_image`; None in files of earlier versions.
    """

    path: Path
    ids: list[str]
    scores: dict[Score, np.ndarray]
    protocol: dict[str, Any] | None


def compare(first: Path, second: Path) -> tuple[str, dict]:
    """Compares A with B image by image.

    Images vary far more than methods do; paired differences cancel that variation. Both must hold
    the same images, measured under the same protocol.

    Args:
      first, second: per-image CSV files, or work directories, whose newest such file is used.

    Returns:
      (table as text; {"metrics": {name: {"a", "b", "difference", "low", "high", "n", "verdict"}}}).

    Raises:
      UserError: a file cannot be read, or the two hold different images, no common metric, or
        scores measured under different protocols.
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
    shared = [score for score in a.scores if score in b.scores]
    if not shared:
        raise UserError(f"{a.path} and {b.path} have no metric in common; evaluate both alike")
    notes = _compare_protocols(a, b, shared)
    lines: list[tuple[str, ...]] = [("metric", "A", "B", "A - B", "low", "high", "n", "")]
    report = {}
    for score in shared:
        values = a.scores[score], b.scores[score][rows]
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
            "verdict": _find_verdict(score, found.low, found.high),
        }
        report[score.text] = entry
        cells = (entry[key] for key in ("a", "b", "difference", "low", "high"))
        lines.append(
            (score.text, *(f"{cell:.4f}" for cell in cells), str(entry["n"]), entry["verdict"])
        )
    heading = "\n".join([f"A: {a.path}", f"B: {b.path}", *(f"note: {note}" for note in notes), ""])
    return heading + table.align(lines), {
        "a": str(a.path),
        "b": str(b.path),
        "metrics": report,
        "notes": notes,
        "interval": "95 %, paired bootstrap over images",
    }


def _compare_protocols(a: PerImage, b: PerImage, shared: Sequence[Score]) -> list[str]:
    """Notes on the differences of two protocols that allow a comparison.

    Raises:
      UserError: the protocols do not allow one.
    """
    if a.protocol is None or b.protocol is None:
        without = ", ".join(str(side.path) for side in (a, b) if side.protocol is None)
        return [f"no protocol in {without}: whether both were measured alike is not known"]
    kept: list[dict[str, Any]] = [_keep_decisive(side, shared) for side in (a.protocol, b.protocol)]
    if kept[0]["real_images"] == kept[1]["real_images"]:  # same pixels, wherever they lie
        kept = [side | {"examples": _drop(side["examples"], *_PLACES)} for side in kept]
    for part in ("examples", "judges", "networks"):  # only keys that both have
        both = kept[0][part].keys() & kept[1][part].keys()
        kept = [side | {part: {key: side[part][key] for key in both}} for side in kept]
    differences = find_differences(kept[0], kept[1])
    if differences:
        raise UserError(
            f"{a.path} and {b.path} were measured differently: {'; '.join(differences)}; "
            "evaluate both alike"
        )
    first, second = ({key: side.get(key) for key in _LESSER} for side in (a.protocol, b.protocol))
    return [f"A and B differ in {text}" for text in find_differences(first, second)]


_PARTS = ("examples", "metrics", "judges", "networks")
# Keys of "examples" that describe where the images come from, not their content.
_PLACES = ("dataset", "data", "split", "ids")
_LESSER = ("seed", "num_noises", "formats")  # a difference in these is noted, not refused


def _keep_decisive(protocol: Mapping[str, Any], shared: Sequence[Score]) -> dict[str, Any]:
    metrics = {metric for metric in map(find_metric, shared) if metric}
    texts = {name: text for name, text in protocol["metrics"].items() if name in metrics}
    return _drop(protocol, "interval", *_LESSER) | {"metrics": texts}


def _drop(mapping: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in mapping.items() if key not in keys}


def _find_verdict(score: Score, low: float, high: float) -> str:
    if low <= 0 <= high:
        return "no difference shown"
    better = find_direction(score)
    if better == "one":
        return "differ"
    return "A is better" if (low > 0) == (better == "higher") else "B is better"


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
    return stat.mtime if is_in_bucket(path) else stat.st_mtime  # pyright: ignore[reportAttributeAccessIssue]


def _read(path: Path) -> PerImage:
    try:
        text = path.read_bytes().decode("utf-8")
        names, *rows = csv.reader(io.StringIO(text, newline=""), strict=True)
        if "id" not in names or any(len(row) != len(names) for row in rows):
            raise ValueError("no column id, or lines of different lengths")
        cells = dict(zip(names, zip(*rows, strict=True), strict=bool(rows)))
        ids = list(cells.pop("id", ()))
        protocol = json.loads(next(filter(None, cells.pop(results.PROTOCOL, ())), "null"))
        if not isinstance(protocol, dict | None) or (
            protocol and not all(isinstance(protocol.get(part), dict) for part in _PARTS)
        ):
            raise ValueError("its protocol is none")
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
    return PerImage(path, ids, _average_noises(numbers), protocol)


def _average_noises(numbers: dict[str, np.ndarray]) -> dict[Score, np.ndarray]:
    grouped: dict[Score, list[np.ndarray]] = {}
    for name, values in numbers.items():
        score = Score.parse(name.rpartition("#")[0] or name)
        parts = {score.metric: values}
        if score.metric.startswith("rank"):
            kind = score.metric.removeprefix("rank")
            parts = {f"r@1{kind}": (values <= 1).astype(np.float64), f"mrr{kind}": 1 / values}
        for metric, part in parts.items():
            grouped.setdefault(dataclasses.replace(score, metric=metric), []).append(part)
    return {score: np.mean(parts, axis=0) for score, parts in grouped.items()}
