"""Which items of a gallery are right answers, wrong ones, or left out."""

import dataclasses
from collections.abc import Mapping

import numpy as np


@dataclasses.dataclass(frozen=True)
class Places:
    """A gallery, and where N queries belong in it.

    Attributes:
      shown: int [R], the pairs that the gallery is made of; further tiles follow after them.
      matches: int [N, P], gallery rows that are right for query n, the own one first, filled up
        with -1.
      near: int [N, S], gallery rows that show the place too, but off their middle (VIGOR's
        semi-positives), filled up with -1. Wrong in R@k, left out for the hit rate.
    """

    shown: np.ndarray
    matches: np.ndarray
    near: np.ndarray

    def take(self, rows: np.ndarray) -> "Places":
        """The same gallery for some of the queries."""
        return dataclasses.replace(self, matches=self.matches[rows], near=self.near[rows])


def find_places(
    columns: Mapping[str, np.ndarray], gallery_view: str, tile_ids: np.ndarray | None = None
) -> Places:
    """Finds the right answers to each pair's query in a gallery of real images.

    A gallery of aerials shows each of them once, whatever number of pairs share it (VIGOR); right
    are the pair's own and its other `positives` (CVACT's test: all within 5 m). In a gallery of
    ground images, those are right whose aerial or positives include the query's aerial.

    Args:
      columns: str [N] "aerial_id", "positives" and "semi_positives" (joined by line breaks).
      gallery_view: "aerial" or "ground".
      tile_ids: str, ids of further gallery aerials, for "aerial" only.
    """
    own = columns["aerial_id"]
    positives = [text.split("\n") for text in columns["positives"].tolist()]
    near = [text.split("\n") if text else [] for text in columns["semi_positives"].tolist()]
    if gallery_view == "aerial":
        names, shown = np.unique(own, return_index=True)
        # In the order of the pairs, so that a gallery does not depend on how ids sort.
        shown = np.sort(shown)
        names = [*own[shown].tolist(), *(() if tile_ids is None else tile_ids.tolist())]
        rows = {}
        for row, name in enumerate(names):
            rows.setdefault(name, row)
        right = [_list_rows(rows, [o, *others]) for o, others in zip(own, positives, strict=True)]
        left_out = [_list_rows(rows, others) for others in near]
        return Places(shown, _fill(right, 1), _fill(left_out, 0))
    return Places(
        np.arange(len(own)),
        _fill(_invert(own, [[o, *p] for o, p in zip(own.tolist(), positives, strict=True)]), 1),
        _fill(_invert(own, near), 0),
    )


def _list_rows(rows: Mapping[str, int], names: list[str]) -> list[int]:
    return list(dict.fromkeys(rows[name] for name in names if name in rows))


def _invert(own: np.ndarray, names: list[list[str]]) -> list[list[int]]:
    """For each pair the pairs, itself first, whose `names` include its aerial."""
    naming: dict[str, list[int]] = {}
    for row, listed in enumerate(names):
        for name in dict.fromkeys(listed):
            naming.setdefault(name, []).append(row)
    found = [naming.get(name, []) for name in own.tolist()]
    return [sorted(rows, key=lambda row, pair=pair: row != pair) for pair, rows in enumerate(found)]


def _fill(rows: list[list[int]], least: int) -> np.ndarray:
    table = np.full((len(rows), max([least, *map(len, rows)])), -1)
    for row, items in enumerate(rows):
        table[row, : len(items)] = items
    return table
