"""What pairs a folder or a manifest names, before any image is opened."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
from collections import Counter
from pathlib import Path

from retroguide_jax.errors import UserError

VIEWS = ("aerial", "ground")
SPLITS = ("train", "val", "test")
SUFFIXES = (".jpg", ".jpeg", ".png")
MANIFEST = "manifest.csv"
_CLUTTER = ("thumbs.db", "desktop.ini")  # left behind by file managers, as are hidden files


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two image files of one place; `split` is "" where the manifest does not say."""

    id: str
    aerial: Path
    ground: Path
    split: str = ""


@dataclasses.dataclass(frozen=True)
class Problem:
    """Something that cannot be used: a path (or a manifest's line) and why."""

    path: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Listing:
    """The pairs of one folder.

    Attributes:
      location: the folder, or the manifest's file, absolute.
      pairs: sorted by id for a folder, in file order for a manifest.
      problems: files without a partner, unusable rows.
      fingerprint: hash of the names, sizes and times of change of all files named.
    """

    location: Path
    pairs: list[Pair]
    problems: list[Problem]
    fingerprint: str


def list_pairs(raw_dir: Path) -> Listing:
    """Finds the pairs of `raw_dir`: a manifest if there is one, else the two folders.

    Args:
      raw_dir: a .csv file, a folder with `manifest.csv`, or a folder with `aerial/` and `ground/`.

    Raises:
      UserError: the place does not exist, has neither layout, or the manifest is unreadable.
    """
    location = raw_dir.absolute()
    if location.is_file() and location.suffix.lower() == ".csv":
        pairs, problems = read_manifest(location)
        stamps = [_stamp(location)]
    elif not location.is_dir():
        raise UserError(f"raw_dir {raw_dir}: no such folder or .csv file; check the path")
    elif (location / MANIFEST).is_file():
        return list_pairs(location / MANIFEST)
    else:
        pairs, problems = _match_folders(location)
        stamps = []
    if not pairs and not problems:
        raise UserError(f"{location} names no images; put JPEG or PNG files there")
    stamps += [_stamp(path) for pair in pairs for path in (pair.aerial, pair.ground)]
    stamps += [f"{problem.path}: {problem.reason}" for problem in problems]
    fingerprint = hashlib.sha256("\n".join(stamps).encode("utf-8", "surrogateescape"))
    return Listing(location, pairs, problems, fingerprint.hexdigest())


def read_manifest(path: Path) -> tuple[list[Pair], list[Problem]]:
    """Reads a CSV manifest: a header with aerial, ground, split, then one pair a row.

    Paths are relative to the manifest's folder and stay inside it. Empty rows are passed over,
    further columns ignored; a byte-order mark and any line ends are fine.

    Returns:
      (pairs in file order, unusable rows).

    Raises:
      UserError: the file cannot be read, is not UTF-8 CSV, or lacks a column.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; check the path") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a CSV file in UTF-8 ({error}); save it as one") from error
    header = [name.strip().lower() for name in rows[0]] if rows else []
    wanted = (*VIEWS, "split")
    missing = [name for name in wanted if header.count(name) != 1]
    if missing:
        raise UserError(
            f"{path}: the first line must name each of the columns {', '.join(wanted)} once; "
            f"mend {', '.join(missing)}"
        )
    columns = [header.index(name) for name in wanted]
    root = path.parent.resolve()
    found: list[tuple[Path, Path, str]] = []
    problems: list[Problem] = []
    seen: set[tuple[Path, Path]] = set()
    for number, row in enumerate(rows[1:], start=2):
        if not any(cell.strip() for cell in row):
            continue
        try:
            aerial, ground, split = _parse_row(row, columns, root)
            if (aerial, ground) in seen:
                raise _BadRowError("names a pair that an earlier row names")
        except _BadRowError as error:
            problems.append(Problem(f"{path.name}, row {number}", str(error)))
            continue
        seen.add((aerial, ground))
        found.append((aerial, ground, split))
    return _name_pairs(found, path.parent), problems


def assign_splits(pairs: list[Pair], location: str) -> dict[str, list[Pair]]:
    """Puts pairs into splits: as the manifest says, else by a hash of the id.

    By hash about 8 of 10 pairs are train, 1 val, 1 test, and a pair stays where it is when others
    are added, save in tiny sets: there each split that stays empty takes one pair of the largest.

    Args:
      pairs: usable pairs.
      location: the folder or manifest, for errors.

    Returns:
      The non-empty splits.

    Raises:
      UserError: no pair to train on, or fewer than the three pairs that three splits need.
    """
    splits: dict[str, list[Pair]] = {name: [] for name in SPLITS}
    if any(pair.split for pair in pairs):
        for pair in pairs:
            splits[pair.split].append(pair)
        if not splits["train"]:
            raise UserError(f"{location}: no usable pair has split train; mark some so")
        return {name: members for name, members in splits.items() if members}
    if len(pairs) < len(SPLITS):
        raise UserError(
            f"{location}: {len(pairs)} usable pairs, but train, val and test need one each; add "
            "pairs, or name the splits in a manifest.csv"
        )
    order = {
        pair: hashlib.sha256(pair.id.encode("utf-8", "surrogateescape")).digest() for pair in pairs
    }
    for pair in sorted(pairs, key=order.__getitem__):
        tenth = int.from_bytes(order[pair][:8]) / 2**64 * 10
        splits["train" if tenth < 8 else "val" if tenth < 9 else "test"].append(pair)
    for name in SPLITS:
        if not splits[name]:
            splits[name].append(max(splits.values(), key=len).pop())
    return splits


class _BadRowError(Exception):
    """Why a manifest's row cannot be used."""


def _parse_row(row: list[str], columns: list[int], root: Path) -> tuple[Path, Path, str]:
    if len(row) <= max(columns):
        raise _BadRowError(f"has {len(row)} columns, {max(columns) + 1} are needed")
    aerial, ground, split = (row[column].strip() for column in columns)
    if split not in SPLITS:
        raise _BadRowError(f"split is {split!r}, not one of {', '.join(SPLITS)}")
    return _resolve_inside(root, aerial), _resolve_inside(root, ground), split


def _resolve_inside(root: Path, name: str) -> Path:
    """A manifest may come from anywhere: it must not make us read files outside its folder."""
    if not name:
        raise _BadRowError("has an empty path")
    try:
        path = (root / name).resolve()
    except (OSError, ValueError, RuntimeError):
        raise _BadRowError(f"path {name!r} cannot be followed") from None
    if Path(name).is_absolute() or not path.is_relative_to(root):
        raise _BadRowError(f"path {name!r} leaves the manifest's folder")
    return path


def _name_pairs(found: list[tuple[Path, Path, str]], root: Path) -> list[Pair]:
    """Ids are the common stem where that is unique, else both paths, which always are."""
    root = root.resolve()
    stems = [a.stem if a.stem == g.stem else "" for a, g, _ in found]
    counts = Counter(stems)
    return [
        Pair(
            stem
            if stem and counts[stem] == 1
            else f"{aerial.relative_to(root)}+{ground.relative_to(root)}",
            aerial,
            ground,
            split,
        )
        for stem, (aerial, ground, split) in zip(stems, found, strict=True)
    ]


def _match_folders(root: Path) -> tuple[list[Pair], list[Problem]]:
    problems: list[Problem] = []
    stems: dict[str, dict[str, Path]] = {}
    for view in VIEWS:
        folder = root / view
        if not folder.is_dir():
            raise UserError(
                f"{root}: has neither the folders aerial and ground nor a manifest.csv; "
                f"make {folder}, or give the folder that holds it"
            )
        stems[view] = {}
        for path in sorted(folder.iterdir()):
            if path.name.startswith(".") or path.name.lower() in _CLUTTER:
                continue
            if path.suffix.lower() not in SUFFIXES or path.is_dir():
                problems.append(Problem(str(path), f"not a file named {', '.join(SUFFIXES)}"))
            elif path.stem in stems[view]:
                problems.append(Problem(str(path), f"same stem as {stems[view][path.stem].name}"))
            else:
                stems[view][path.stem] = path
    for view, other in (VIEWS, VIEWS[::-1]):
        problems += [
            Problem(str(path), f"no partner {stem}.* in {root / other}")
            for stem, path in stems[view].items()
            if stem not in stems[other]
        ]
    both = sorted(stems["aerial"].keys() & stems["ground"].keys())
    return [Pair(stem, stems["aerial"][stem], stems["ground"][stem]) for stem in both], problems


def _stamp(path: Path) -> str:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return f"{path} unreadable"
    return f"{path} {status.st_size} {status.st_mtime_ns}"
