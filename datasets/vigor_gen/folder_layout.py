"""Matches VIGOR's panoramas and aerials, from its folders, lists and protocols."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from retroguide_jax.errors import UserError

from ..common import tables
from ..common.listing import Listing, Pair, Problem, Tile, find_duplicates
from . import geometry, labels

PAIRINGS = ("vigor_crop", "as_is", "vigor_gen")
CITIES = tuple(geometry.METRES_PER_PIXEL)
# Per protocol and split: its cities, and the name of the list in each of them.
PROTOCOLS = {
    "same_area": {
        "train": (CITIES, "same_area_balanced_train"),
        "test": (CITIES, "same_area_balanced_test"),
    },
    "cross_area": {
        "train": (("NewYork", "Seattle"), "pano_label_balanced"),
        "test": (("SanFrancisco", "Chicago"), "pano_label_balanced"),
    },
}
# Per label set: the ending of its list names, and the folders of its lists. Lines have the same
# format in both sets, so only the ending of the name distinguishes them.
_LABELS = {
    "": ("__corrected.txt", ("splits__corrected", "splits_new", "splits")),
    "_original_labels": (".txt", ("splits", "splits_new")),
}
_CHOICES = {
    f"{pairing}_{protocol}{suffix}": (pairing, protocol, suffix)
    for pairing in PAIRINGS
    for protocol in PROTOCOLS
    for suffix in _LABELS
}
VARIANTS = tuple(_CHOICES)

GALLERY_LIST = "satellite_list.txt"
OWN_TILES = "vigor_gen_tiles"
_GALLERY_FOLDERS = ("splits__corrected", "splits_new", "splits")
_LAYOUTS = {
    "city_first": ("{city}/panorama", "{city}/satellite"),
    "view_first": ("ground/{city}", "satellite/{city}"),
}
_PUBLISHED = {"train": 52609, "test": 52605}  # same_area
_PUBLISHED_GALLERY = 90618  # tiles of all four cities
_FIXES = {
    "row": "mend the line, or take it out",
    "duplicate": "take the line out",
    "dangling": "complete the list of tiles, or take the line out",
    "missing": "add the tile, or leave the panorama out with allow_bad",
}
_Read = TypeVar("_Read")


@dataclasses.dataclass(frozen=True)
class _City:
    """The folders of a city, and the tiles of its aerial folder."""

    name: str
    folder_layout: str
    panoramas: Path
    aerials: Path
    # Paths of tiles by panorama (vigor_gen) or by their own names; None if the list is missing.
    tiles: Mapping[str, str] | None = None


def list_pairs(raw_dir: Path, variant: str, crop_metres: float) -> Listing:
    """Lists the pairs of a VIGOR folder, and the gallery's other tiles.

    Args:
      raw_dir: the folder of the cities (or of `ground` and `satellite`), with the label folders.
      variant: one of `VARIANTS`.
      crop_metres: for vigor_crop, the side of the square around the camera.

    Returns:
      The listing. With as_is, aerial_id, semi_positives and the tiles' ids are `<City>/<tile>`; the
      listed tiles are those of the test cities that are the positive of no test pair.

    Raises:
      UserError: the folder does not exist, has no city or no list, or a list is not UTF-8.
    """
    pairing, protocol, suffix = _CHOICES[variant]
    root = raw_dir.absolute()
    if not root.is_dir():
        raise UserError(f"raw_dir {raw_dir}: no such folder; check the path")
    cities, problems = _find_cities(root, pairing)
    lists, absent = _find_lists(root, variant, cities)
    problems += absent
    for name in cities:
        find_tiles = _find_own_tiles if pairing == "vigor_gen" else _read_gallery
        tiles, new = find_tiles(root, cities[name])
        cities[name] = dataclasses.replace(cities[name], tiles=tiles)
        problems += new
    listed: list[Pair] = []
    for city, split, path in lists:

        def read(line: str, city: str = city, split: str = split) -> Pair:
            return _make_pair(labels.read_row(line), cities[city], split, pairing, crop_metres)

        pairs, new = _read_lines(path, root, read)
        listed += pairs
        problems += new
    pairs, duplicates = find_duplicates(listed)
    folder_layouts = dict.fromkeys(city.folder_layout for city in cities.values())
    folders = dict.fromkeys(path.parent.parent.name for _, _, path in lists)
    found = Listing(
        location=str(root),
        folder_layout=f"{' and '.join(folder_layouts)}, {' and '.join(folders)}",
        pairs=pairs,
        problems=problems + duplicates,
        expected=_PUBLISHED if protocol == "same_area" and pairing != "vigor_gen" else {},
        notes=_note_positions(pairs),
    )
    if pairing == "as_is":
        test_cities = PROTOCOLS[protocol]["test"][0]
        _add_gallery(found, [cities[name] for name in test_cities if name in cities])
    return found


def _find_cities(root: Path, pairing: str) -> tuple[dict[str, _City], list[Problem]]:
    cities, problems = {}, []
    own = (f"{OWN_TILES}/{{city}}",) if pairing == "vigor_gen" else ()
    patterns = {name: (first, *(own or (second,))) for name, (first, second) in _LAYOUTS.items()}
    wanted = " nor ".join(" with ".join(pair) for pair in patterns.values())
    for name in CITIES:
        for folder_layout, pair in patterns.items():
            panoramas, aerials = (root / pattern.format(city=name) for pattern in pair)
            if panoramas.is_dir() and aerials.is_dir():
                cities[name] = _City(name, folder_layout, panoramas, aerials)
                break
        else:
            reason = f"city {name} is absent: there is neither {wanted.format(city=name)}"
            fix = "fetch the city, or leave it out with allow_bad"
            problems.append(Problem(str(root / name), reason, "missing", fix))
    if not cities:
        raise UserError(
            f"{root}: no city of VIGOR is there, neither {wanted.format(city='<City>')}, for any "
            f"of {', '.join(CITIES)}; give the folder that holds them"
        )
    return cities, problems


def _find_lists(
    root: Path, variant: str, cities: Iterable[str]
) -> tuple[list[tuple[str, str, Path]], list[Problem]]:
    """(city, split, path) of the protocol's lists for the cities found, and problems."""
    pairing, protocol, suffix = _CHOICES[variant]
    ending, folders = _LABELS[suffix]
    lists, problems = [], []
    for split, (names, stem) in PROTOCOLS[protocol].items():
        for city in names:
            path = _find_file(root, folders, city, stem + ending)
            if city in cities and path:
                lists.append((city, split, path))
            elif city in cities:
                problems.append(_report_list(root, folders, city, stem + ending))
    if not lists:
        stems = dict.fromkeys(stem + ending for _, stem in PROTOCOLS[protocol].values())
        raise UserError(
            f"{root}: no list of labels is there; looked for {' and '.join(stems)} in "
            f"{', '.join(f'{folder}/<City>' for folder in folders)}; "
            f"{_hint_at_labels(root, variant, cities)}fetch the label folders"
        )
    return lists, problems


def _hint_at_labels(root: Path, variant: str, cities: Iterable[str]) -> str:
    """A hint at the config_name that reads the other label set, if its lists exist."""
    pairing, protocol, suffix = _CHOICES[variant]
    (other,) = (name for name in _LABELS if name != suffix)
    ending, folders = _LABELS[other]
    stems = {stem + ending for _, stem in PROTOCOLS[protocol].values()}
    if not any(_find_file(root, folders, city, stem) for city in cities for stem in stems):
        return ""
    kind = "original" if other else "corrected"
    return f"the {kind} ones are: config_name {pairing}_{protocol}{other} reads them; or "


def _find_file(root: Path, folders: Iterable[str], city: str, name: str) -> Path | None:
    paths = (root / folder / city / name for folder in folders)
    return next((path for path in paths if path.is_file()), None)


def _report_list(root: Path, folders: Iterable[str], city: str, name: str) -> Problem:
    reason = f"no such list of {city}, in none of {', '.join(folders)}"
    fix = f"fetch {name} of {city}"
    return Problem(str(root / next(iter(folders)) / city / name), reason, "missing", fix)


def _read_lines(
    path: Path, root: Path, read: Callable[[str], _Read]
) -> tuple[list[_Read], list[Problem]]:
    results, problems = [], []
    # splitlines would also split at characters that file names may contain.
    for number, line in enumerate(tables.read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            results.append(read(line))
        except tables.BadRowError as error:
            where = f"{path.relative_to(root)}, line {number}"
            problems.append(Problem(where, str(error), error.kind, _FIXES[error.kind]))
    return results, problems


def _read_gallery(root: Path, city: _City) -> tuple[dict[str, str] | None, list[Problem]]:
    path = _find_file(root, _GALLERY_FOLDERS, city.name, GALLERY_LIST)
    if path is None:
        return None, [_report_list(root, _GALLERY_FOLDERS, city.name, GALLERY_LIST)]
    tiles: dict[str, str] = {}

    def add(line: str) -> None:
        name = labels.read_name(line)
        if name in tiles:
            raise tables.BadRowError(f"names {name}, as an earlier line does", "duplicate")
        tiles[name] = str(city.aerials / name)

    _, problems = _read_lines(path, root, add)
    return tiles, problems


def _find_own_tiles(root: Path, city: _City) -> tuple[dict[str, str], list[Problem]]:
    """The files of `vigor_gen_tiles/<City>`, by the panorama after which they are named."""
    tiles: dict[str, str] = {}
    problems = []
    for path in sorted(city.aerials.iterdir()):
        if path.suffix.lower() not in (".jpg", ".jpeg", ".png") or path.name.startswith("."):
            continue
        first = tiles.setdefault(labels.cut_suffix(path.name), str(path))
        if first != str(path):
            reason = f"the panorama has a tile before, {Path(first).name}"
            problems.append(Problem(str(path), reason, "duplicate", "remove one of the two"))
    return tiles, problems


def _make_pair(row: labels.Row, city: _City, split: str, pairing: str, crop_metres: float) -> Pair:
    """Makes the pair of a row; raises BadRowError if one of its tiles is not listed."""
    stem = labels.cut_suffix(row.panorama)
    pair = Pair(
        id=f"{city.name}/{stem}",
        aerial=str(city.aerials / row.tiles[0]),
        ground=str(city.panoramas / row.panorama),
        split=split,
        position=labels.find_position(row.panorama),
    )
    if pairing == "vigor_gen":
        if city.tiles is None or stem not in city.tiles:
            where = f"{OWN_TILES}/{city.name}"
            raise tables.BadRowError(f"panorama {row.panorama} has no tile in {where}", "missing")
        return dataclasses.replace(pair, aerial=city.tiles[stem])
    used = row.tiles if pairing == "as_is" else row.tiles[:1]
    lost = [name for name in used if city.tiles is not None and name not in city.tiles]
    if lost:
        raise tables.BadRowError(f"names {lost[0]}, which {GALLERY_LIST} lacks", "dangling")
    if pairing == "vigor_crop":
        box = geometry.crop_around(row.deltas[0], city.name, crop_metres)
        return dataclasses.replace(pair, aerial_box=box)
    own, *others = (_name_tile(city, name) for name in row.tiles)
    return dataclasses.replace(pair, aerial_id=own, semi_positives=tuple(others))


def _name_tile(city: _City, name: str) -> str:
    return f"{city.name}/{labels.cut_suffix(name)}"


def _note_positions(pairs: list[Pair]) -> list[str]:
    unknown = [pair.id for pair in pairs if pair.position[0] != pair.position[0]]
    if not unknown:
        return []
    return [f"{len(unknown)} panoramas have no position in their names, such as {unknown[0]}"]


def _add_gallery(found: Listing, cities: list[_City]) -> None:
    used = {pair.aerial_id for pair in found.pairs if pair.split == "test"}
    num_listed = 0
    for city in cities:
        names = {_name_tile(city, name): path for name, path in (city.tiles or {}).items()}
        num_listed += len(names)
        found.tiles.extend(
            Tile(name, path, "test") for name, path in names.items() if name not in used
        )
    is_whole = len(cities) == len(CITIES) and all(city.tiles is not None for city in cities)
    if is_whole and num_listed != _PUBLISHED_GALLERY:
        found.notes.append(f"gallery: {num_listed} tiles listed, {_PUBLISHED_GALLERY} published")
