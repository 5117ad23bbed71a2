"""Is what was listed usable? Headers of all image files, on all cores, before anything is built."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TypeVar

from retroguide_jax.data import images, inspection
from retroguide_jax.progress import make_bar

from . import storing
from .listing import Listing, Pair, Problem, Tile
from .workers import OrderedPool

_ASPECT_TOLERANCE = 0.05
FIXES = {
    "missing": "fetch the file, or take its line out of the list",
    "unreadable": "fetch the file again, or leave it out with allow_bad",
    "size": "use files of the published size (or larger crops), or smaller config.data sizes",
    "outside": "a smaller crop_metres keeps it; crop_outside=pad repeats the tile's edge",
}


def check_listing(
    found: Listing, recipe: storing.Recipe, num_workers: int
) -> tuple[list[Pair], list[Problem], list[Problem]]:
    """Looks at the header and the end of every file that was listed.

    Args:
      found: what was listed.
      recipe: sizes that images must reach.
      num_workers: processes.

    Returns:
      (usable pairs, problems, pairs left out as asked: crops that leave their tile), in the
      listing's order. The listing's own problems come first.
    """
    check = functools.partial(check_pair, recipe)
    return _check_all(found, found.pairs, check, num_workers)


def check_tiles(
    found: Listing, recipe: storing.Recipe, num_workers: int
) -> tuple[list[Tile], list[Problem], list[Problem]]:
    """As `check_listing`, of the tiles without a pair."""
    return _check_all(found, found.tiles, functools.partial(check_tile, recipe), num_workers)


_Listed = TypeVar("_Listed", Pair, Tile)


def _check_all(
    found: Listing,
    listed: Sequence[_Listed],
    check: Callable[[_Listed], list[Problem]],
    num_workers: int,
) -> tuple[list[_Listed], list[Problem], list[Problem]]:
    kept: list[_Listed] = []
    problems, left_out = list(found.problems), []
    # To start processes takes as long as some thousand headers.
    with OrderedPool(num_workers if len(listed) > 5000 else 1) as pool:
        # The delay keeps a dozen silent.
        bar = make_bar(pool.map(check, listed), desc="checking", total=len(listed), delay=2)
        for item, new in zip(listed, bar, strict=True):
            outside = [problem for problem in new if problem.kind == "outside"]
            left_out += outside
            problems += [problem for problem in new if problem.kind != "outside"]
            if not new:
                kept.append(item)
    return kept, problems, left_out


def check_pair(recipe: storing.Recipe, pair: Pair, *, decode: bool = False) -> list[Problem]:
    """What is wrong with the files of one pair.

    Args:
      recipe: see `check_listing`.
      pair: the pair.
      decode: decode the images too, which finds damage in their middle.
    """
    problems = []
    for path, view, box in (
        (pair.aerial, recipe.aerial, pair.aerial_box),
        (pair.ground, recipe.ground, pair.ground_box),
    ):
        problems += _check_image(path, view, box or view.box, recipe.pads, decode)
    return list(dict.fromkeys(problems))  # both views may lie in one file


def check_tile(recipe: storing.Recipe, tile: Tile) -> list[Problem]:
    """What is wrong with the file of a tile."""
    return _check_image(tile.aerial, recipe.aerial, recipe.aerial.box, recipe.pads, False)


def _check_image(path, view, box, pads: bool, decode: bool) -> list[Problem]:
    try:
        facts = inspection.inspect_file(path, images.READABLE_FORMATS)
        if decode:
            images.decode_image(path, formats=images.READABLE_FORMATS)
    except images.UnreadableImageError as error:
        kind = "missing" if error.reason == "no such file" else "unreadable"
        return [Problem(path, error.reason, kind, FIXES[kind])]
    return _check_size(path, facts, view, box, pads)


def _check_size(path, facts, view, box, pads: bool) -> list[Problem]:
    height, width = facts.height, facts.width
    if view.aspect and abs(width / height / view.aspect - 1) > _ASPECT_TOLERANCE:
        reason = f"wrong size: {height} x {width} pixels (height x width), width / height should "
        return [Problem(path, f"{reason}be {view.aspect:.4g}", "size", FIXES["size"])]
    if view.strips and width != view.strips[0][1] * height:
        return [_refuse_strip(path, height, width, view.strips)]
    if box is not None:
        left, top, right, bottom = storing.find_pixels(box, height, width)
        is_inside = left >= 0 and top >= 0 and right <= width and bottom <= height
        is_apart = right <= 0 or bottom <= 0 or left >= width or top >= height
        if is_apart or not (is_inside or pads):
            reason = f"the crop {left, top, right, bottom} leaves the {width} x {height} image"
            return [Problem(path, reason, "outside", FIXES["outside"])]
        height, width = bottom - top, right - left
    if height < view.min_size[0] or width < view.min_size[1]:
        wanted = f"at least {view.min_size[0]} x {view.min_size[1]} wanted"
        what = "too small" if box is None else "crop too small"
        reason = f"{what}: {height} x {width} pixels (height x width), {wanted}"
        return [Problem(path, reason, "size", FIXES["size"])]
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


def print_problems(problems: list[Problem], tell: Callable[[str], None], most: int = 50) -> None:
    """Tells problems one a line; more than `most` would scroll the first ones away."""
    for problem in problems[:most]:
        tell(f"  {problem.path}: {problem.reason}")
    if len(problems) > most:
        tell(f"  ... and {len(problems) - most} more")
