"""Matches the arrays of a file with ours; lists those that do not fit or are left over."""

import dataclasses
import fnmatch
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from retroguide_jax.errors import UserError
from retroguide_jax.exchange.weight_layouts import Source
from retroguide_jax.text import find_nearest
from retroguide_jax.torch_layout import axes

_MOST_NAMED = 5


@dataclasses.dataclass(frozen=True)
class Row:
    """One imported array: its names and shapes in the file and here, and its conversion."""

    source: str
    source_shape: tuple[int, ...]
    name: str
    shape: tuple[int, ...]
    transform: str
    remark: str


@dataclasses.dataclass(frozen=True)
class Match:
    """A file's arrays matched with those of the networks.

    Attributes:
      arrays: imported arrays by our names.
      rows: one row per imported array, with its source.
      kept: our names that `only` excludes from the import.
      missing: our name -> reason: the file has no such array, or one of another shape.
      leftover: the file's names that were not imported.
      refused: those of them that `allow_leftover` does not cover.
    """

    arrays: Mapping[str, np.ndarray]
    rows: Sequence[Row]
    kept: Sequence[str]
    missing: Mapping[str, str]
    leftover: Sequence[str]
    refused: Sequence[str]

    def check(self) -> None:
        """Raises UserError with the first few names if `missing` or `refused` has any."""
        wrong = []
        if self.missing:
            named = _name_few(f"{name} ({reason})" for name, reason in self.missing.items())
            wrong.append(
                f"{len(self.missing)} arrays of this config are not in it: {named}; what may stay "
                "as it is initialised is left out by naming the rest with --only, such as "
                "--only=embedder or --only='embedder/towers_*'"
            )
        if self.refused:
            example = self.refused[0].rpartition(".")[0]
            wrong.append(
                f"{len(self.refused)} of its arrays are left over: {_name_few(self.refused)}; if "
                f"they may be dropped, name them: "
                f"--allow_leftover='{example + '.*' if example else self.refused[0]}'"
            )
        if wrong:
            raise UserError("; ".join(wrong))


def match(
    source: Source,
    shapes: Mapping[str, tuple[int, ...]],
    only: Sequence[str] = (),
    allow_leftover: Sequence[str] = (),
) -> Match:
    """Finds an array of the file for each of ours.

    Args:
      source: the file.
      shapes: shapes of our arrays, by name.
      only: shell-style patterns of our names to import; a network or module stands for all arrays
        inside. () imports all.
      allow_leftover: shell-style patterns of the file's names that need not be imported.

    Raises:
      UserError: a pattern of `only` matches nothing.
    """
    for pattern in only:
        if not any(_is_within(name, pattern) for name in shapes):
            parts = {"/".join(name.split("/")[:depth]) for name in shapes for depth in (1, 2, 3)}
            hint = _hint(pattern, parts)
            raise UserError(f"--only={pattern}: the config has no arrays of that name{hint}")
    wanted = [name for name in shapes if not only or any(_is_within(name, p) for p in only)]
    theirs = {name: source.name_fn(name) for name in wanted}
    leftover = sorted(source.arrays.keys() - set(theirs.values()))
    arrays, rows, missing = {}, [], {}
    for name, their_name in theirs.items():
        if their_name is None:
            missing[name] = "this layout has none"
            continue
        shape, array = tuple(shapes[name]), source.arrays.get(their_name)
        moved = None if array is None else axes.from_torch(name, array, shape)
        if array is not None and moved is not None:
            arrays[name], transform = moved
            remark = source.remarks.get(their_name, "")
            rows.append(Row(their_name, array.shape, name, shape, transform, remark))
        elif array is not None:
            expected = axes.to_torch(name, np.empty(shape, np.bool_)).shape
            missing[name] = f"{their_name} is {list(array.shape)}, not {list(expected)}"
        else:
            # Comparing names is slow, so only the names that `check` prints get a hint.
            hint = _hint(their_name, leftover) if len(missing) < _MOST_NAMED else ""
            missing[name] = f"{their_name} is missing{hint}"
    kept = [name for name in shapes if name not in theirs]
    return Match(
        arrays,
        rows,
        kept,
        missing,
        leftover,
        [name for name in leftover if not any(fnmatch.fnmatch(name, p) for p in allow_leftover)],
    )


def _is_within(name: str, pattern: str) -> bool:
    return fnmatch.fnmatch(name, pattern) or fnmatch.fnmatch(name, f"{pattern}/*")


def _hint(name: str, names: Iterable[str]) -> str:
    nearest = find_nearest(name, sorted(names))
    return f"; the nearest is {nearest}" if nearest else ""


def _name_few(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more
