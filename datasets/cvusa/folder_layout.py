"""Matches CVUSA's panoramas and aerials, from its folders and split files."""

import dataclasses
import itertools
import math
import os
from pathlib import Path

from retroguide_jax.errors import UserError

from ..common import tables
from ..common.listing import Listing, Pair, Problem, find_duplicates

LISTS = {"train": "train-19zl.csv", "val": "val-19zl.csv"}
_PUBLISHED = {"train": 35532, "val": 8884}
_FOLDERS = ("", "CVUSA", "CVPR_subset")  # archives unpack to either name
_LIST_FOLDERS = ("splits", "")
_POSITIONS = ("split_locations/all.csv", "all.csv")
_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
# Words in a header's column names that identify the view.
_AERIAL_WORDS = ("sat", "aerial", "bing", "overhead")
_GROUND_WORDS = ("ground", "street", "grd", "pano")
_UNLIKE_SHARE = 0.1  # if stems differ in a larger share of rows, report it


@dataclasses.dataclass(frozen=True)
class _Columns:
    """Column indices of a row's cells; without a header a row has two or three cells."""

    aerial: int = 0
    ground: int = 1
    annotation: int = 2
    has_header: bool = False


def list_pairs(raw_dir: Path) -> Listing:
    """Lists the pairs of CVUSA's two split files, train and val.

    Args:
      raw_dir: the folder of `bingmap`, `streetview` and `splits`, or its parent if it is called
        CVUSA or CVPR_subset. The split files may also be directly in that folder.

    Returns:
      The listing. An id is the stem of the panorama's file; positions are the panorama's latitude
      and longitude in degrees if `split_locations/all.csv` (or `all.csv`) exists.

    Raises:
      UserError: the folder does not exist, a split file is absent, empty or not UTF-8 CSV, or its
        header does not name the columns.
    """
    folder, inner = _find_lists(raw_dir)
    location = raw_dir.absolute() / folder
    root = location.resolve()
    listed: list[Pair] = []
    annotations: list[str] = []
    problems: list[Problem] = []
    for split, name in LISTS.items():
        path = location / inner / name
        pairs, labels, new = read_list(path, split, root)
        if not pairs and not new:
            raise UserError(f"{path} names no pair; fetch it again")
        listed += pairs
        annotations += labels
        problems += new
    pairs, duplicates = find_duplicates(listed)
    pairs, notes = _add_positions(pairs, location)
    return Listing(
        location=str(location),
        folder_layout="/".join(part for part in (folder, inner, "*-19zl.csv") if part),
        pairs=pairs,
        problems=problems + duplicates,
        notes=[*_note_stems(pairs), *_note_annotations(annotations, root), *notes],
        expected=_PUBLISHED,
    )


def read_list(path: Path, split: str, root: Path) -> tuple[list[Pair], list[str], list[Problem]]:
    """Reads a split file: aerial, panorama and (optional) annotation, one pair per row.

    The published files have no header. If a file has one, it identifies the columns, and further
    columns are ignored. A byte-order mark, any line ends, empty rows, and spaces around cells are
    accepted.

    Args:
      path: the CSV file.
      split: the split of its pairs.
      root: the resolved folder to which paths are relative.

    Returns:
      (pairs in file order, non-empty annotation cells, problems of unusable rows).

    Raises:
      UserError: the file cannot be read, is not UTF-8 CSV, or its header does not name both views.
    """
    rows = [(number, [cell.strip() for cell in row]) for number, row in tables.read_csv(path)]
    columns = _Columns()
    if rows and not any(_is_image(cell) for cell in rows[0][1]):
        columns = _read_header(path, rows.pop(0)[1])
    pairs, annotations, problems = [], [], []
    for number, row in rows:
        try:
            pairs.append(_parse_row(row, columns, split, root))
        except tables.BadRowError as error:
            fix = "mend the row, or take it out"
            problems.append(Problem(f"{path.name}, row {number}", str(error), error.kind, fix))
            continue
        annotations += row[columns.annotation : columns.annotation + 1]
    return pairs, list(filter(None, annotations)), problems


def _find_lists(raw_dir: Path) -> tuple[str, str]:
    """(folder of the data set below raw_dir, folder of the split files below that)."""
    root = raw_dir.absolute()
    if not root.is_dir():
        raise UserError(f"raw_dir {raw_dir}: no such folder; check the path")
    for folder, inner in itertools.product(_FOLDERS, _LIST_FOLDERS):
        place = root / folder / inner
        absent = [name for name in LISTS.values() if not (place / name).exists()]
        if not absent:
            return folder, inner
        if len(absent) < len(LISTS):
            raise UserError(
                f"{place} lacks {absent[0]}, but has the other split file; take both from "
                "split.tar.gz of the CVPR_subset archive"
            )
    raise UserError(
        f"{root}: neither {' nor '.join(LISTS.values())} is there, in splits/ or directly, here or "
        f"in {' or '.join(_FOLDERS[1:])}; many mirrors lack them: take split.tar.gz from the "
        f"CVPR_subset archive and unpack it to {root / 'splits'}"
    )


def _is_image(cell: str) -> bool:
    return cell.lower().endswith(_IMAGE_SUFFIXES)


def _read_header(path: Path, header: list[str]) -> _Columns:
    names = [name.lower() for name in header]
    annotation = next((i for i, name in enumerate(names) if "annotation" in name), len(names))
    found = []
    for words in (_AERIAL_WORDS, _GROUND_WORDS):
        matches = [i for i, name in enumerate(names) if any(word in name for word in words)]
        matches = [i for i in matches if i != annotation]
        if len(matches) != 1:
            raise UserError(
                f"{path}: the first row {','.join(header)[:80]!r} names no image, and as a header "
                "it does not say which column is which; call them satellite_path,ground_path or "
                "take it out"
            )
        found.append(matches[0])
    aerial, ground = found
    if aerial == ground:
        raise UserError(f"{path}: column {header[aerial]!r} names both views; rename it")
    return _Columns(aerial, ground, annotation, has_header=True)


def _parse_row(row: list[str], columns: _Columns, split: str, root: Path) -> Pair:
    if columns.has_header:
        needed = max(columns.aerial, columns.ground) + 1
        if len(row) < needed:
            raise tables.BadRowError(f"has {len(row)} columns, {needed} are needed")
    elif len(row) not in (2, 3):
        raise tables.BadRowError(f"has {len(row)} columns, 2 or 3 are wanted")
    aerial, ground = (
        tables.resolve_inside(root, row[place]) for place in (columns.aerial, columns.ground)
    )
    stem = Path(row[columns.ground].replace("\\", "/")).stem
    if not stem:
        raise tables.BadRowError(f"path {row[columns.ground]!r} names no file")
    return Pair(id=stem, aerial=aerial, ground=ground, split=split)


def _note_stems(pairs: list[Pair]) -> list[str]:
    unlike = [pair for pair in pairs if Path(pair.aerial).stem != pair.id]
    if len(unlike) <= _UNLIKE_SHARE * len(pairs):
        return []
    return [
        f"{len(unlike)} of {len(pairs)} rows pair files of different names, such as "
        f"{Path(unlike[0].aerial).name} and {Path(unlike[0].ground).name}: the columns may be "
        "swapped or shuffled; look at some pairs with `retroguide data show`"
    ]


def _note_annotations(names: list[str], root: Path) -> list[str]:
    """A note on the annotations, which are never read, so that a missing one is no problem."""
    if not names:
        return []
    present = 0
    for name in names:
        try:
            # Unlike `Path.is_file`, False where a damaged name is too long.
            present += os.path.isfile(tables.resolve_inside(root, name))
        except tables.BadRowError:
            continue
    return [f"{present} of {len(names)} listed annotations are there (they are not used)"]


def _add_positions(pairs: list[Pair], location: Path) -> tuple[list[Pair], list[str]]:
    path = next((location / name for name in _POSITIONS if (location / name).is_file()), None)
    if path is None:
        return pairs, [f"no positions: there is neither {' nor '.join(_POSITIONS)}"]
    positions = read_positions(path)
    unknown = (math.nan, math.nan)
    placed = [
        dataclasses.replace(pair, position=positions.get(_find_number(pair.id), unknown))  # pyright: ignore[reportArgumentType, reportCallIssue]
        for pair in pairs
    ]
    num_lost = sum(math.isnan(pair.position[0]) for pair in placed)
    lost = [f"{num_lost} of {len(pairs)} pairs have no position in {path.name}"]
    return placed, lost if num_lost else []


def _find_number(name: str) -> int | None:
    return int(name) if name.isdecimal() and len(name) < 10 else None


def read_positions(path: Path) -> dict[int, tuple[float, float]]:
    """Reads the positions of the panoramas; row n, without a header, belongs to id n.

    Args:
      path: a CSV file with rows of aerial latitude and longitude, then ground latitude and
        longitude; further columns are ignored.

    Returns:
      Latitude and longitude in degrees by id. Rows without such numbers are left out.

    Raises:
      UserError: the file cannot be read, or is not UTF-8 CSV.
    """
    rows = tables.read_csv(path)
    # The published file has no header; an added one would shift every position by one row.
    is_header = bool(rows) and not any(_is_number(cell) for cell in rows[0][1])
    positions = {}
    for number, row in rows[is_header:]:
        if len(row) < 4 or not (_is_number(row[2]) and _is_number(row[3])):
            continue
        latitude, longitude = float(row[2]), float(row[3])
        if abs(latitude) <= 90 and abs(longitude) <= 180:
            positions[number - is_header] = (latitude, longitude)
    return positions


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
