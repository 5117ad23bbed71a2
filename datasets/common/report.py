"""Report on a raw folder before a build: its content, its problems, and their fixes."""

import collections
import functools
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from retroguide_jax.data.identity import find_equal_files
from retroguide_jax.errors import UserError
from retroguide_jax.progress import make_bar

from . import checking, lookalikes, places, storing
from .listing import Listing, Pair, Problem, assign_splits
from .workers import OrderedPool

NUM_SAMPLED = 200
_NO_SPLIT = "no split"
# The last and first columns of a 360-degree panorama are neighbours: an image whose seam differs by
# this factor more than other neighbouring columns does not span 360 degrees.
_SEAM_RATIO = 4.0
_POSE_HEADING = re.compile(rb"GPano:PoseHeadingDegrees(?:>|\s*=\s*[\"'])\s*(-?\d+(?:\.\d+)?)")
_BYTES_OF_METADATA = 2**18
_MOST_DEGREES_APART = 2.0


def make_report(builder_class, data_config, *, full: bool, num_workers: int) -> dict[str, Any]:
    """Checks a raw folder.

    Reads the header and the end of every listed file, and decodes `NUM_SAMPLED` evenly spaced
    pairs, or all of them with `full`.

    Args:
      builder_class: a `builder.PairsBuilder`.
      data_config: `config.data`.
      full: decode every image.
      num_workers: worker processes.

    Returns:
      {"ok": whether a build would succeed, "layout", "counts": {split: listed pairs}, "published":
      {split: pairs}, "decoded": pairs whose images were decoded, "problems": [{"kind", "path",
      "reason", "fix"}], "notes": [text]}.
    """
    try:
        variant = builder_class.choose_variant(data_config)
        found = builder_class.list_raw(data_config)
    except UserError as error:
        problem = Problem(str(data_config.raw_dir), str(error), "layout", "mend that first")
        return _finish({"layout": None, "counts": {}, "published": {}, "decoded": 0}, [problem], [])
    recipe = builder_class.make_recipe(data_config)
    problems, notes = list(found.problems), list(found.notes)
    decoded = _pick(len(found.pairs), len(found.pairs) if full else NUM_SAMPLED)
    check = functools.partial(_check_pair, recipe, bool(data_config.panorama))
    work = [(pair, index in decoded) for index, pair in enumerate(found.pairs)]
    looks, usable = [], []
    with OrderedPool(num_workers if len(work) > 50 else 1) as pool:
        bar = make_bar(
            pool.map(check, work), desc="checking", total=len(work), unit=" pairs", delay=2
        )
        for (pair, _), (new, seen) in zip(work, bar, strict=True):
            problems += new
            if checking.is_usable(new):
                looks.append(seen)
                usable.append(pair)
    serious = [problem for problem in problems if problem.kind not in checking.MILD_KINDS]
    allowed = bool(data_config.allow_bad)
    usable = places.identify_places(usable)
    if allowed or not serious:  # otherwise those problems must be fixed first
        try:
            assign_splits(usable, found.location)
        except UserError as error:
            fix, allowed = "mend that first", False
            serious.append(Problem(found.location, str(error), "splits", fix))
    outside = [problem for problem in problems if problem.kind == "outside"]
    if outside:
        share = f"{len(outside)} of {len(work)} pairs"
        notes.append(f"{share} are left out: {outside[0].reason}; {outside[0].fix}")
    notes += _describe_counts(found) + _describe_looks(looks) + checking.describe_flat(problems)
    notes += checking.describe_headings(usable, recipe) + places.describe_places(usable)
    head = {
        "variant": variant,
        "layout": found.folder_layout,
        "counts": {name or _NO_SPLIT: count for name, count in found.count_pairs().items()},
        "published": dict(found.expected),
        "decoded": len(decoded),
    }
    return _finish(head, serious, notes, allowed)


def format_report(report: dict[str, Any], most: int = 20) -> str:
    """The report as text: layout and counts, notes, then at most `most` problems per kind."""
    counts = ", ".join(f"{name} {count}" for name, count in report["counts"].items())
    counts = counts.replace(_NO_SPLIT, "to be split by their names")
    lines = [f"folder layout: {report['layout'] or 'not recognised'}"]
    lines += [f"pairs: {counts}; {report['decoded']} of them decoded"] if counts else []
    lines += [f"note: {note}" for note in report["notes"]]
    by_kind: dict[str, list[dict]] = {}
    for problem in report["problems"]:
        by_kind.setdefault(problem["kind"], []).append(problem)
    for kind, problems in by_kind.items():
        lines.append(f"problems, {kind}: {len(problems)}")
        lines += [f"  {_describe(p)}" for p in problems[:most]]
        lines += [f"  ... and {len(problems) - most} more"] if len(problems) > most else []
        lines += [f"  -> {fix}" for fix in dict.fromkeys(p["fix"] for p in problems[:most])]
    lines.append("ready to build" if report["ok"] else "not ready: a build would stop")
    return "\n".join(lines)


def _describe(problem: dict) -> str:
    """A problem on one line; for one of the entire folder, the reason already names the path."""
    is_of_all = problem["kind"] in ("layout", "splits")
    return problem["reason"] if is_of_all else f"{problem['path']}: {problem['reason']}"


def _finish(head: dict, problems: Sequence[Problem], notes: list[str], allowed: bool = False):
    listed = [{"kind": p.kind, "path": p.path, "reason": p.reason, "fix": p.fix} for p in problems]
    ok = allowed or not problems
    return {"ok": ok, **head, "problems": listed, "notes": notes}


def _pick(num: int, most: int) -> set[int]:
    """At most `most` of the numbers below `num`, evenly spaced."""
    return set(np.linspace(0, num - 1, min(num, most)).round().astype(int).tolist())


def _check_pair(recipe: storing.Recipe, panorama: bool, work: tuple[Pair, bool]):
    """The problems of a pair; the facts of both views, and "seam" and "heading" if decoded."""
    pair, decode = work
    seen: dict[str, Any] = {}
    problems, picture = checking.check_names(pair), None
    for view, check in checking.check_files(recipe, pair, decode=decode).items():
        problems += check.problems
        facts, picture = check.facts, check.picture
        if facts is not None:
            done = picture.conversions if picture else ()
            size = (facts.height, facts.width)
            seen[view] = (check.path, size, facts.mode, facts.is_rotated, done)
            if picture is not None and not picture.describe_flatness():
                seen[f"{view} thumbnail"] = (check.path, lookalikes.make_thumbnail(picture.pixels))
    problems = list(dict.fromkeys(problems))
    if panorama and picture is not None and checking.is_usable(problems):
        box, pixels = pair.ground_box, picture.pixels
        seen["seam"] = measure_seam(pixels if box is None else storing.crop_image(pixels, box))
        seen["heading"] = (pair.ground, pair.heading, read_heading(pair.ground))
    return problems, seen


def read_heading(path: str) -> float | None:
    """The bearing of a panorama's centre column from its XMP metadata, degrees; None if absent.

    Cameras and Street View tools write GPano:PoseHeadingDegrees, as an attribute or an element.
    """
    with open(path, "rb") as file:
        found = _POSE_HEADING.search(file.read(_BYTES_OF_METADATA))
    return float(found[1]) % 360.0 if found else None


def measure_seam(panorama: np.ndarray) -> float:
    """Ratio of the difference across the seam to the difference of nearby columns.

    Args:
      panorama: uint8 [H, W, 3].

    Returns:
      Mean absolute difference of last and first column / mean absolute difference of columns two
      apart: about 1 for an image that spans 360 degrees.
    """
    columns = panorama.astype(np.float32)
    inside = np.abs(columns[:, 2:] - columns[:, :-2]).mean()
    return float(np.abs(columns[:, 0] - columns[:, -1]).mean() / max(inside, 1e-3))


def _describe_counts(found: Listing) -> list[str]:
    counts = found.count_pairs()
    notes = [
        f"{name}: {counts.get(name, 0)} pairs listed, {expected} published"
        for name, expected in found.expected.items()
        if counts.get(name, 0) != expected
    ]
    if found.tiles:
        notes.append(f"{len(found.tiles)} gallery tiles without a pair")
    return notes


def _describe_looks(looks: Sequence[dict]) -> list[str]:
    notes = []
    for view in ("aerial", "ground"):
        seen = {look[view][0]: look[view] for look in looks}.values()
        sizes = collections.Counter(size for _, size, *_ in seen)
        common = ", ".join(f"{h} x {w} ({n})" for (h, w), n in sizes.most_common(3))
        if sizes:
            more = f" and {len(sizes) - 3} more sizes" if len(sizes) > 3 else ""
            notes.append(f"{view}: height x width in pixels: {common}{more}")
        odd = collections.Counter(mode for _, _, mode, *_ in seen if mode != "RGB")
        for mode, count in odd.items():
            notes.append(f"{view}: {count} images of mode {mode} are converted to RGB when read")
        conversions = collections.Counter(text for *_, done in seen for text in done)
        for text, count in conversions.items():
            notes.append(f"{view}: {text}: {count} images")
        rotated = [path for path, _, _, is_rotated, _ in seen if is_rotated]
        if rotated:
            notes.append(
                f"{view}: {len(rotated)} images are turned by an EXIF flag, such as {rotated[0]}: "
                "a tile or panorama should not be; look whether north is where it belongs"
            )
        files = dict(look[f"{view} thumbnail"] for look in looks if f"{view} thumbnail" in look)
        equal = dict(zip(files, find_equal_files(list(files)), strict=True))
        alike = lookalikes.find_lookalikes({equal[path]: row for path, row in files.items()})
        if alike:
            notes.append(
                f"{view}: {len(alike)} files look like another of other bytes, such as "
                f"{alike[0][0]} and {alike[0][1]}: if they show one place, give both one aerial_id "
                "in a manifest.csv"
            )
    seams = [look["seam"] for look in looks if "seam" in look]
    broken = sum(seam > _SEAM_RATIO for seam in seams)
    if 2 * broken > len(seams):
        notes.append(
            f"{broken} of {len(seams)} panoramas do not meet at their left and right edges: are "
            "they cut, or ordinary photographs? Then set config.data.panorama to false"
        )
    return notes + _describe_headings([look["heading"] for look in looks if "heading" in look])


def _describe_headings(seen: Sequence[tuple[str, float, float | None]]) -> list[str]:
    """A note on panoramas whose metadata contradict the heading in use."""
    apart = [
        (path, used, stated)
        for path, used, stated in seen
        if stated is not None and abs((stated - used + 180) % 360 - 180) > _MOST_DEGREES_APART
    ]
    if not apart:
        return []
    path, used, stated = apart[0]
    return [
        f"{len(apart)} of {len(seen)} panoramas state another heading in their metadata "
        f"(GPano:PoseHeadingDegrees), such as {path}: {stated:g} degrees, {used:g} are used; if it "
        "still holds, give it in the column heading of a manifest.csv"
    ]
