"""Checks the headers of all listed image files, on all cores, before anything is built."""

import dataclasses
import functools
import math
import os
from collections.abc import Callable, Sequence
from typing import TypeVar

from retroguide_jax.data import images, inspection
from retroguide_jax.progress import make_bar
from retroguide_jax.text import make_printable

from . import storing
from .listing import Box, Listing, Pair, Problem, Tile
from .workers import OrderedPool

_ASPECT_TOLERANCE = 0.05
_FIXES = {
    "size": "use files of the published size (or larger crops), or smaller config.data sizes",
    "outside": "a smaller crop_metres keeps it; crop_outside=pad repeats the tile's edge",
    "flat": "look at it; where there is no picture in it, take its pair out",
    "name": "rename it, for example with convmv -f gbk -t utf8 --notest",
}
# Problems that stop no build: the pair is stored nevertheless, or is left out as requested.
MILD_KINDS = ("outside", "flat")
# A file with fewer bytes than these may be of one colour, so it is decoded to check.
_BYTES_PER_PIXEL, _BYTES_OF_HEADERS = 0.02, 300


def check_listing(
    found: Listing, recipe: storing.Recipe, num_workers: int
) -> tuple[list[Pair], list[Problem]]:
    """Checks the header and the end of every listed file.

    Files that hold more than opaque 8-bit samples, or that may be of one colour, are decoded.

    Args:
      found: the listing to check.
      recipe: the recipe, with the sizes that images must reach.
      num_workers: worker processes.

    Returns:
      (pairs to store, problems), in the listing's order, after the listing's own problems. A pair
      whose crop leaves its tile ("outside") is left out as requested; a pair with a picture of
      (nearly) one colour ("flat") is kept.
    """
    check = functools.partial(check_pair, recipe)
    return _check_all(found, found.pairs, check, num_workers)


def check_tiles(
    found: Listing, recipe: storing.Recipe, num_workers: int
) -> tuple[list[Tile], list[Problem]]:
    """Checks the tiles without a pair, as `check_listing` does pairs."""
    return _check_all(found, found.tiles, functools.partial(check_tile, recipe), num_workers)


_Listed = TypeVar("_Listed", Pair, Tile)


def _check_all(
    found: Listing,
    listed: Sequence[_Listed],
    check: Callable[[_Listed], list[Problem]],
    num_workers: int,
) -> tuple[list[_Listed], list[Problem]]:
    kept: list[_Listed] = []
    problems = list(found.problems)
    # Starting workers costs as much as reading several thousand headers.
    with OrderedPool(num_workers if len(listed) > 5000 else 1) as pool:
        # The delay shows no bar for short listings.
        bar = make_bar(pool.map(check, listed), desc="checking", total=len(listed), delay=2)
        for item, new in zip(listed, bar, strict=True):
            problems += new
            if is_usable(new):
                kept.append(item)
    return kept, problems


def is_usable(problems: Sequence[Problem]) -> bool:
    """Whether a pair with these problems is stored."""
    return all(problem.kind == "flat" for problem in problems)


@dataclasses.dataclass(frozen=True)
class FileCheck:
    """The result of checking an image file.

    Attributes:
      path: the file.
      problems: its problems; empty if it is usable.
      facts: facts from its header; None if it cannot be read.
      picture: the decoded image, if decoding was requested or necessary.
    """

    path: str
    problems: list[Problem]
    facts: inspection.ImageFacts | None = None
    picture: images.Picture | None = None


def check_pair(recipe: storing.Recipe, pair: Pair, *, decode: bool = False) -> list[Problem]:
    """Lists the problems of a pair; see `check_files`."""
    problems = check_names(pair)
    for check in check_files(recipe, pair, decode=decode).values():
        problems += check.problems
    return list(dict.fromkeys(problems))  # both views may be in the same file


def check_files(recipe: storing.Recipe, pair: Pair, *, decode: bool) -> dict[str, FileCheck]:
    """Checks the files of one pair, "aerial" and "ground".

    Args:
      recipe: see `check_listing`.
      pair: the pair.
      decode: also decode the images, which finds damage inside the pixels.
    """
    return {
        "aerial": _check_file(pair.aerial, recipe.aerial, pair.aerial_box, recipe.pads, decode),
        "ground": _check_file(pair.ground, recipe.ground, pair.ground_box, recipe.pads, decode),
    }


def check_tile(recipe: storing.Recipe, tile: Tile) -> list[Problem]:
    """Lists the problems of a tile."""
    return (
        _check_names(tile.aerial, tile.id)
        + _check_file(tile.aerial, recipe.aerial, None, recipe.pads, False).problems
    )


def check_names(pair: Pair) -> list[Problem]:
    """Lists the problems of a pair's names."""
    return _check_names(pair.ground, pair.id, pair.aerial_id)


def _check_names(path: str, *names: str) -> list[Problem]:
    """Reports names that cannot be stored, because ids are stored as UTF-8."""
    bad = [name for name in names if make_printable(name) != name]
    reason = "its name is not UTF-8 text"
    return [Problem(path, reason, "name", _FIXES["name"])] if bad else []


def _check_file(
    path: str, view: storing.View, box: Box | None, pads: bool, decode: bool
) -> FileCheck:
    picture = None
    try:
        facts = inspection.inspect_file(path, images.READABLE_FORMATS)
        if decode or not facts.is_plain or _may_be_flat(path, facts):
            picture = images.read_image(path, formats=images.READABLE_FORMATS)
    except images.UnreadableImageError as error:
        return FileCheck(path, [storing.make_problem(error)])
    problems = _check_size(path, facts, view, box or view.box, pads)
    flatness = picture.describe_flatness() if picture else ""
    if flatness and not problems:
        problems = [Problem(path, flatness, "flat", _FIXES["flat"])]
    return FileCheck(path, problems, facts, picture)


def _may_be_flat(path: str, facts: inspection.ImageFacts) -> bool:
    most = _BYTES_OF_HEADERS + _BYTES_PER_PIXEL * facts.height * facts.width
    return os.path.getsize(path) < most


def _check_size(path, facts, view, box, pads: bool) -> list[Problem]:
    height, width = facts.height, facts.width
    if view.aspect and abs(width / height / view.aspect - 1) > _ASPECT_TOLERANCE:
        reason = f"wrong size: {height} x {width} pixels (height x width), width / height should "
        return [Problem(path, f"{reason}be {view.aspect:.4g}", "size", _FIXES["size"])]
    if view.strips and width != view.strips[0][1] * height:
        return [_refuse_strip(path, height, width, view.strips)]
    if box is not None:
        left, top, right, bottom = storing.find_pixels(box, height, width)
        is_inside = left >= 0 and top >= 0 and right <= width and bottom <= height
        is_apart = right <= 0 or bottom <= 0 or left >= width or top >= height
        if is_apart or not (is_inside or pads):
            reason = f"the crop {left, top, right, bottom} leaves the {width} x {height} image"
            return [Problem(path, reason, "outside", _FIXES["outside"])]
        height, width = bottom - top, right - left
    if height < view.min_size[0] or width < view.min_size[1]:
        wanted = f"at least {view.min_size[0]} x {view.min_size[1]} wanted"
        what = "too small" if box is None else "crop too small"
        reason = f"{what}: {height} x {width} pixels (height x width), {wanted}"
        return [Problem(path, reason, "size", _FIXES["size"])]
    return []


def _refuse_strip(path, height: int, width: int, strips) -> Problem:
    (wanted, times), *others = strips
    reason = (
        f"wrong size: {height} x {width} pixels (height x width), "
        f"{wanted} files are {times} times as wide as tall"
    )
    fits = [name for name, times in others if width == times * height]
    known = ", ".join(f"{name} ({times} times)" for name, times in strips)
    fix = (
        f"it fits config_name {fits[0]}"
        if fits
        else f"it fits none of {known}: cut it into the folders aerial and ground"
    )
    return Problem(path, reason, "size", fix)


def describe_flat(problems: Sequence[Problem]) -> list[str]:
    """A note on images of (nearly) one colour."""
    flat = [problem for problem in problems if problem.kind == "flat"]
    if not flat:
        return []
    first = make_printable(f"{flat[0].path} ({flat[0].reason})")
    return [f"{len(flat)} images are hardly pictures, such as {first}; {flat[0].fix}"]


def describe_headings(pairs: Sequence[Pair], recipe: storing.Recipe) -> list[str]:
    """Notes on headings that look wrong or are not used."""
    headings = [pair.heading for pair in pairs]
    if not any(headings):
        return []
    notes = []
    if not recipe.turns:
        notes.append(
            "headings are stored but images are not turned by them: config.data.panorama is false"
        )
    if max(min(heading, 360 - heading) for heading in headings) < 2 * math.pi:
        notes.append(
            "all headings lie within 6.3 degrees of north: are they radians? Degrees are wanted"
        )
    return notes


def print_problems(problems: list[Problem], log_fn: Callable[[str], None], most: int = 50) -> None:
    """Prints one problem per line, at most `most`, so that the first ones stay on the screen."""
    for problem in problems[:most]:
        log_fn(make_printable(f"  {problem.path}: {problem.reason}"))
    if len(problems) > most:
        log_fn(f"  ... and {len(problems) - most} more")
