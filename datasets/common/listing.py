"""The listing of a folder of photographs: pairs, tiles and problems, before any image is opened."""

import dataclasses
import hashlib
import os
from collections.abc import Iterable, Mapping

from retroguide_jax.errors import UserError

SPLITS = ("train", "val", "test")


@dataclasses.dataclass(frozen=True, slots=True)
class Box:
    """A part of an image, as fractions of its width and height; may extend beyond 0 .. 1."""

    left: float
    top: float
    right: float
    bottom: float

    def is_inside(self, tolerance: float = 1e-6) -> bool:
        """Whether the image covers the box."""
        edges = (self.left, self.top, 1.0 - self.right, 1.0 - self.bottom)
        return min(edges) >= -tolerance


@dataclasses.dataclass(frozen=True, slots=True)
class Pair:
    """An aerial and a ground image of one place.

    Attributes:
      id: unique in its data set.
      aerial, ground: the image files.
      split: "train", "val" or "test"; "" if the data set defines no split.
      aerial_id: id of the aerial image, shared by pairs that share a tile; "" if the data set
        defines none: `places.identify_places` then derives it from the file's content.
      positives: ids of the other aerials that are correct matches of this ground image.
      semi_positives: ids of aerials that also show the place, but off centre (VIGOR).
      position: latitude and longitude in degrees, or the data set's own metres; NaN if unknown.
      heading: compass bearing of the ground image's centre column, degrees clockwise from north.
      aerial_box, ground_box: the part of the file that holds the image; None for the entire file.
    """

    id: str
    aerial: str
    ground: str
    split: str = ""
    aerial_id: str = ""
    positives: tuple[str, ...] = ()
    semi_positives: tuple[str, ...] = ()
    position: tuple[float, float] = (float("nan"), float("nan"))
    heading: float = 0.0
    aerial_box: Box | None = None
    ground_box: Box | None = None

    def name_place(self) -> str:
        """The common name of all pairs of a place; needs pairs from `places.identify_places`."""
        return min((self.aerial_id or self.id, *self.positives))


@dataclasses.dataclass(frozen=True, slots=True)
class Tile:
    """An aerial image of the gallery that belongs to no pair."""

    id: str
    aerial: str
    split: str


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """A problem of a file or of a line of a list.

    Attributes:
      path: the file, or the line of a list.
      reason: the cause of the problem.
      kind: missing, unreadable, size, duplicate, dangling (a line that names an unknown file), row
        (a line that cannot be read), index, outside (a crop off its tile), partner or layout.
      fix: the next step.
    """

    path: str
    reason: str
    kind: str
    fix: str


@dataclasses.dataclass(frozen=True)
class Listing:
    """The pairs of one folder.

    Attributes:
      location: the folder (or the manifest's file), absolute.
      folder_layout: the name of the recognised folder layout.
      pairs: the pairs, in the order of the lists or sorted by id.
      problems: problems that stop a build unless bad files are allowed.
      tiles: gallery images without a pair.
      notes: remarks that do not stop a build.
      expected: published number of pairs per split, if known.
    """

    location: str
    folder_layout: str
    pairs: list[Pair]
    problems: list[Problem]
    tiles: list[Tile] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    expected: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def count_pairs(self) -> dict[str, int]:
        """Number of pairs per split; the key "" counts pairs without a split."""
        counts: dict[str, int] = {}
        for pair in self.pairs:
            counts[pair.split] = counts.get(pair.split, 0) + 1
        return counts

    def compute_fingerprint(self) -> str:
        """Hash of everything listed, and of every file's size and modification time."""
        hasher = hashlib.sha256()
        stamps: dict[str, str] = {}
        for pair in self.pairs:
            hasher.update(f"{pair}\n".encode("utf-8", "surrogateescape"))
            for path in (pair.aerial, pair.ground):
                stamps[path] = stamps.get(path) or _stamp(path)
        for tile in self.tiles:
            hasher.update(f"{tile}\n".encode("utf-8", "surrogateescape"))
            stamps[tile.aerial] = stamps.get(tile.aerial) or _stamp(tile.aerial)
        lines = [*stamps.values(), *map(str, self.problems)]
        hasher.update("\n".join(lines).encode("utf-8", "surrogateescape"))
        return hasher.hexdigest()


def find_duplicates(pairs: Iterable[Pair]) -> tuple[list[Pair], list[Problem]]:
    """Keeps the first pair of each id; returns (kept pairs, a problem per other pair)."""
    kept: dict[str, Pair] = {}
    problems = []
    for pair in pairs:
        if pair.id in kept:
            first = kept[pair.id]
            problems.append(
                Problem(
                    pair.ground,
                    f"id {pair.id} stands there before, for {first.ground}",
                    "duplicate",
                    "remove one of the two, or rename its file",
                )
            )
        else:
            kept[pair.id] = pair
    return list(kept.values()), problems


def assign_splits(pairs: list[Pair], location: str) -> dict[str, list[Pair]]:
    """Assigns pairs to splits: as the data set defines them, else by a hash of the place.

    By hash, about 8 of 10 places are train, 1 val, 1 test, and a place keeps its split when others
    are added, except in tiny sets, where each empty split takes a place from the largest. All pairs
    of a place are then in one split.

    Args:
      pairs: usable pairs, as `places.identify_places` returns them.
      location: the folder or manifest, for errors.

    Returns:
      The non-empty splits.

    Raises:
      UserError: no pair has split train, or there are fewer than three places for three splits.
    """
    splits: dict[str, list[Pair]] = {name: [] for name in SPLITS}
    if any(pair.split for pair in pairs):
        for pair in pairs:
            splits[pair.split].append(pair)
        if not splits["train"]:
            raise UserError(f"{location}: no usable pair has split train; mark some so")
        return {name: members for name, members in splits.items() if members}
    places: dict[str, list[Pair]] = {}
    for pair in pairs:
        places.setdefault(pair.name_place(), []).append(pair)
    if len(places) < len(SPLITS):
        of_places = "" if len(places) == len(pairs) else f" of {len(places)} places"
        raise UserError(
            f"{location}: {len(pairs)} usable pairs{of_places}, but train, val and test need one "
            "each; add pairs, or name the splits in a manifest.csv"
        )
    order = {
        name: hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest() for name in places
    }
    chosen: dict[str, list[str]] = {name: [] for name in SPLITS}
    for name in sorted(places, key=order.__getitem__):
        tenth = int.from_bytes(order[name][:8]) / 2**64 * 10
        chosen["train" if tenth < 8 else "val" if tenth < 9 else "test"].append(name)
    for split in SPLITS:
        if not chosen[split]:
            chosen[split].append(max(chosen.values(), key=len).pop())
    return {split: [pair for name in chosen[split] for pair in places[name]] for split in SPLITS}


def _stamp(path: str) -> str:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return f"{path} unreadable"
    return f"{path} {status.st_size} {status.st_mtime_ns}"
