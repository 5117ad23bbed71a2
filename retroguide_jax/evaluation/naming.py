"""Maps the files of a folder to places where names differ in more than their suffix."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from retroguide_jax.errors import UserError
from retroguide_jax.text import join_few

ROLES = ("generated", "reference", "source", "sky_mask")
_SAMPLE = re.compile(r"(.+)_(\d+)")  # as `retroguide generate --num_samples=K` names its files
_BREAK = re.compile(r"[^0-9A-Za-z]")


def parse_names(texts: Sequence[str]) -> dict[str, str]:
    """Reads ROLE=PATTERN, such as "generated=*_fake_B"; * stands for the id.

    Raises:
      UserError: it is of another form, or names a role twice.
    """
    patterns: dict[str, str] = {}
    for text in texts:
        role, _, pattern = text.partition("=")
        if role not in ROLES or pattern.count("*") != 1 or role in patterns:
            raise UserError(
                f"--names={text}: give ROLE=PATTERN, once for each of {', '.join(ROLES)}, with one "
                "* for the id and no suffix: --names='generated=*_fake_B'"
            )
        patterns[role] = pattern
    return patterns


def select(found: Mapping[str, Path], pattern: str, folder: Path) -> dict[str, Path]:
    """The images whose names fit a pattern, keyed by the part that its * stands for.

    Raises:
      UserError: no name fits.
    """
    before, after = pattern.split("*")
    form = re.compile(f"{re.escape(before)}(.+){re.escape(after)}", re.DOTALL)
    matches = ((form.fullmatch(name), path) for name, path in found.items())
    selected = {match[1]: path for match, path in matches if match}
    if not selected:
        raise UserError(
            f"{folder}: none of {join_few(list(found))} fits {pattern}; patterns are of names "
            "inside the folder, without their suffix"
        )
    return selected


def split_samples(found: Mapping[str, Path], num: int, folder: Path) -> list[dict[str, Path]]:
    """Splits the files NAME_0, NAME_1 ... of a folder into `num` sets keyed by NAME.

    Raises:
      UserError: a name does not end in _0 to _{num - 1}, or a set is incomplete.
    """
    samples: list[dict[str, Path]] = [{} for _ in range(num)]
    others = []
    for name, path in found.items():
        match = _SAMPLE.fullmatch(name)
        if match and match[2] == str(int(match[2])) and int(match[2]) < num:
            samples[int(match[2])][match[1]] = path
        else:
            others.append(name)
    ids = sorted(set().union(*samples))
    lacking = [f"{name}_{k}" for name in ids for k in range(num) if name not in samples[k]]
    for names, what in ((others, "files of other names"), (lacking, "samples missing")):
        if names:
            raise UserError(
                f"{folder}: {join_few(names, what)}; --num_samples={num} scores the files "
                f"NAME_0 to NAME_{num - 1} of every NAME"
            )
    return samples


def suggest(generated: Sequence[str], reference: Sequence[str]) -> str:
    """The flags that would make the names of two folders match, or "" if none are found."""
    parts = [_find_common(names) for names in (generated, reference)]
    bare = [
        sorted(name[len(before) : len(name) - len(after)] for name in names)
        for names, (before, after) in zip((generated, reference), parts, strict=True)
    ]
    if bare[0] == bare[1]:
        return " ".join(
            f"--names='{role}={before}*{after}'"
            for role, (before, after) in zip(ROLES, parts, strict=False)
            if before or after
        )
    samples = [_SAMPLE.fullmatch(name) for name in generated]
    if all(samples) and {match[1] for match in samples if match} == set(reference):
        return f"--num_samples={len(generated) // len(reference)}"
    return ""


def find_endings(names: Sequence[str]) -> list[str]:
    """The endings that divide names into sets of equal beginnings: "_fake_B", "_real_B"."""
    breaks = [[match.start() for match in _BREAK.finditer(name)] for name in names]
    for k in range(min(map(len, breaks), default=0)):
        beginnings: dict[str, set[str]] = {}
        for name, places in zip(names, breaks, strict=True):
            beginnings.setdefault(name[places[k] :], set()).add(name[: places[k]])
        sets = list(beginnings.values())
        is_named = all(any(map(str.isalpha, ending)) for ending in beginnings)
        if is_named and len(sets) > 1 and all(each == sets[0] for each in sets):
            return sorted(beginnings)
    return []


def _find_common(names: Sequence[str]) -> tuple[str, str]:
    """Common prefix and suffix of all names, cut at the last and the first word break in them."""
    before = os.path.commonprefix(names)
    before = before[: max((match.end() for match in _BREAK.finditer(before)), default=0)]
    after = os.path.commonprefix([name[len(before) :][::-1] for name in names])[::-1]
    first = _BREAK.search(after)
    return before, after[first.start() :] if first else ""
