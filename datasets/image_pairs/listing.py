"""Lists the pairs of a folder or a manifest, before any image is opened."""

import dataclasses
import math
from collections import Counter
from pathlib import Path

from retroguide_jax.data.listing import is_clutter, is_image, make_id, walk_files
from retroguide_jax.errors import UserError
from retroguide_jax.text import join_few

from ..common import tables
from ..common.listing import SPLITS, Listing, Pair, Problem, find_duplicates

VIEWS = ("aerial", "ground")
MANIFEST = "manifest.csv"
_OPTIONAL = ("id", "aerial_id", "lat", "lon", "heading")
# Other words for splits, and words in the names of unread columns that call for a note.
_SPLIT_WORDS = {"training": "train", "validation": "val", "valid": "val", "testing": "test"}
_HEADING_WORDS = ("yaw", "bearing", "azimuth", "north", "compass", "orientation", "direction")
_PLACE_WORDS = ("place", "tile", "location")
_LISTS = (".csv", ".tsv", ".txt")


def list_pairs(raw_dir: Path) -> Listing:
    """Finds the pairs of `raw_dir`: a manifest if there is one, else the two folders.

    Args:
      raw_dir: a .csv (.tsv, .txt) file, a folder with `manifest.csv`, or a folder with `aerial/`
        and `ground/`.

    Raises:
      UserError: raw_dir does not exist, has neither a manifest nor the two folders, or the manifest
        is unreadable.
    """
    location, notes = raw_dir.absolute(), []
    if location.is_file() and location.suffix.lower() in _LISTS:
        folder_layout, (pairs, problems, notes) = "manifest", read_manifest(location)
    elif not location.is_dir():
        raise UserError(f"raw_dir {raw_dir}: no such folder or .csv file; check the path")
    elif (location / MANIFEST).is_file():
        return list_pairs(location / MANIFEST)
    else:
        folder_layout, (pairs, problems) = "folders", _match_folders(location)
    if not pairs and not problems:
        raise UserError(f"{location} names no images; put JPEG or PNG files there")
    return Listing(str(location), folder_layout, pairs, problems, notes=notes)


def read_manifest(path: Path) -> tuple[list[Pair], list[Problem], list[str]]:
    """Reads a CSV manifest: a header with aerial, ground, split, then one pair per row.

    Optional columns are id, aerial_id (equal for rows of one place), lat, lon (degrees) and heading
    (of the ground image's centre column, degrees clockwise from north). Paths are relative to the
    manifest's folder and must stay inside it. Spreadsheet exports are accepted: see
    `tables.read_csv`, splits in any case or named Validation, decimal commas, empty rows.

    Returns:
      (pairs in file order, problems of unusable rows, notes on columns that are not read).

    Raises:
      UserError: the file cannot be read, is not CSV, or lacks a column.
    """
    rows = tables.read_csv(path)
    header = [name.strip().lower() for name in rows[0][1]] if rows else []
    wanted = (*VIEWS, "split")
    missing = [name for name in wanted if header.count(name) != 1]
    missing += [name for name in _OPTIONAL if header.count(name) > 1]
    if missing:
        has = f" (it has {', '.join(rows[0][1])[:80]!r})" if rows else ""
        raise UserError(
            f"{path}: the first line must name each of the columns {', '.join(wanted)} once{has}; "
            f"mend {', '.join(missing)}"
        )
    columns = {name: header.index(name) for name in (*wanted, *_OPTIONAL) if name in header}
    root = path.parent.resolve()
    found: list[Pair] = []
    problems: list[Problem] = []
    seen: set[tuple[str, str]] = set()
    ids: set[str] = set()
    for number, row in rows[1:]:
        try:
            pair = _parse_row(row, columns, root)
            if (pair.aerial, pair.ground) in seen:
                raise tables.BadRowError("names a pair that an earlier row names", "duplicate")
            if pair.id and pair.id in ids:
                raise tables.BadRowError(f"has the id {pair.id!r} of an earlier row", "duplicate")
        except tables.BadRowError as error:
            fix = "mend the row, or take it out"
            problems.append(Problem(f"{path.name}, row {number}", str(error), error.kind, fix))
            continue
        seen.add((pair.aerial, pair.ground))
        ids.add(pair.id)
        found.append(pair)
    named, twins = find_duplicates(_name_pairs(found, root))
    notes = _note_columns(rows[0][1], columns)
    column = columns.get("heading")
    blank = [number for number, row in rows[1:] if column and not "".join(row[column:][:1]).strip()]
    if 0 < len(blank) < len(rows) - 1:
        notes.append(
            f"{len(blank)} of {len(rows) - 1} rows have no heading, such as row {blank[0]}: their "
            "panoramas are taken to look north in the centre column"
        )
    return named, problems + twins, notes


def _note_columns(header: list[str], columns: dict[str, int]) -> list[str]:
    """Notes on unread columns whose names suggest a heading or an aerial_id."""
    notes = []
    for name in (name.strip() for name in header):
        if name.lower() in columns:
            continue
        if "heading" not in columns and any(word in name.lower() for word in _HEADING_WORDS):
            notes.append(
                f"column {name!r} is not read: call it heading if it is the bearing of the ground "
                "image's centre column, in degrees clockwise from north"
            )
        if "aerial_id" not in columns and any(word in name.lower() for word in _PLACE_WORDS):
            notes.append(
                f"column {name!r} is not read: call it aerial_id if rows of one value show one "
                "place (aerials of equal content do anyway)"
            )
    return notes


def _parse_row(row: list[str], columns: dict[str, int], root: Path) -> Pair:
    needed = max(columns[name] for name in (*VIEWS, "split"))
    if len(row) <= needed:
        raise tables.BadRowError(f"has {len(row)} columns, {needed + 1} are needed")
    cells = {
        name: row[column].strip() if column < len(row) else "" for name, column in columns.items()
    }
    split = cells["split"].lower()
    split = _SPLIT_WORDS.get(split, split)
    if split not in SPLITS:
        raise tables.BadRowError(f"split is {cells['split']!r}, not one of {', '.join(SPLITS)}")
    aerial, ground = (tables.resolve_inside(root, cells[view]) for view in VIEWS)
    numbers = {
        name: tables.parse_number(name, cells.get(name, "")) for name in ("lat", "lon", "heading")
    }
    _check_position(numbers["lat"], numbers["lon"])
    return Pair(
        id=cells.get("id", ""),
        aerial=aerial,
        ground=ground,
        split=split,
        aerial_id=cells.get("aerial_id", ""),
        position=(numbers["lat"], numbers["lon"]),
        heading=0.0 if math.isnan(numbers["heading"]) else numbers["heading"] % 360.0,
    )


def _check_position(lat: float, lon: float) -> None:
    if math.isnan(lat) != math.isnan(lon):
        raise tables.BadRowError("has only one of lat and lon")
    if abs(lat) > 90:
        raise tables.BadRowError(f"lat is {lat:g}, not within -90 to 90 degrees")
    if not -180 <= lon <= 360 and not math.isnan(lon):
        raise tables.BadRowError(f"lon is {lon:g}, not within -180 to 360 degrees")


def _name_pairs(found: list[Pair], root: Path) -> list[Pair]:
    """Assigns ids: the row's own, else the common stem if it is unique, else both paths."""
    names = []
    for pair in found:
        aerial, ground = (make_id(Path(path).name) for path in (pair.aerial, pair.ground))
        names.append(pair.id or (aerial if aerial == ground else ""))
    counts = Counter(names)
    named = []
    for name, pair in zip(names, found, strict=True):
        if not pair.id and (not name or counts[name] > 1):
            aerial, ground = (Path(path).relative_to(root) for path in (pair.aerial, pair.ground))
            name = f"{aerial}+{ground}"
        named.append(dataclasses.replace(pair, id=name))
    return named


def list_images(folder: Path, *, deep: bool = False) -> tuple[list[Path], list[Problem]]:
    """The image files of a folder (with `deep`, also of sub-folders), and a problem per other file.

    Hidden files and leftovers of file managers are skipped.

    Raises:
      UserError: the folder cannot be read.
    """
    try:
        entries = walk_files(folder) if deep else sorted(folder.iterdir())
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}; check the folder") from error
    paths, problems = [], []
    for path in entries:
        if is_clutter(path.name):
            continue
        if not path.is_dir() and is_image(path):
            paths.append(path)
        else:
            problems.append(Problem(str(path), "not an image", "unreadable", "move it elsewhere"))
    return paths, problems


def _describe_folders(root: Path) -> str:
    """Names the folders found instead, such as trainA and trainB of other programs."""
    names = sorted(path.name for path in root.iterdir() if path.is_dir() and path.name[0] != ".")
    return f", but holds {join_few(names, 'folders')}" if names else ""


def _hint_at_list(root: Path) -> str:
    """A hint for lists in a folder that are not called manifest.csv."""
    names = [
        path.name for path in root.iterdir() if path.suffix.lower() in (*_LISTS, ".xlsx", ".ods")
    ]
    return f"; if {sorted(names)[0]} lists the pairs, save it as {MANIFEST}" if names else ""


def _match_folders(root: Path) -> tuple[list[Pair], list[Problem]]:
    problems: list[Problem] = []
    stems: dict[str, dict[str, Path]] = {}
    for view in VIEWS:
        folder = root / view
        if not folder.is_dir():
            raise UserError(
                f"{root}: has neither the folders aerial and ground nor a manifest.csv"
                f"{_describe_folders(root)}; "
                f"make {folder}, or give the folder that holds it{_hint_at_list(root)}"
            )
        paths, others = list_images(folder, deep=True)
        problems += others
        stems[view] = {}
        for path in paths:
            stem = make_id(path.relative_to(folder).as_posix())
            if stem in stems[view]:
                reason = f"same stem as {stems[view][stem].name}"
                problems.append(Problem(str(path), reason, "duplicate", "rename one of the two"))
            else:
                stems[view][stem] = path
    aerials, grounds = stems["aerial"], stems["ground"]
    found = {stem: aerials.get(stem) or _find_shared(aerials, stem) for stem in sorted(grounds)}
    pairs = [Pair(stem, str(path), str(grounds[stem])) for stem, path in found.items() if path]
    if aerials and grounds and not pairs:
        raise UserError(
            f"{root}: no name is in both aerial and ground, such as {min(aerials)} and "
            f"{min(grounds)}: give pairs equal names, or list them in a {MANIFEST}"
        )
    used = {pair.aerial for pair in pairs}
    alone = [("ground", stem) for stem, path in found.items() if not path]
    alone += [("aerial", stem) for stem, path in aerials.items() if str(path) not in used]
    for view, stem in alone:
        place = root / VIEWS[view == "aerial"]
        fix = f"add {place / stem}.*, or move this file elsewhere"
        reason = f"no partner {stem}.* in {place}"
        problems.append(Problem(str(stems[view][stem]), reason, "partner", fix))
    return pairs, problems


def _find_shared(aerials: dict[str, Path], stem: str) -> Path | None:
    """The aerial shared by all ground images of a folder: named like it, or the only one in it."""
    folder = stem.rpartition("/")[0]
    if not folder:
        return None
    inside = [path for name, path in aerials.items() if name.rpartition("/")[0] == folder]
    return aerials.get(folder) or (inside[0] if len(inside) == 1 else None)
