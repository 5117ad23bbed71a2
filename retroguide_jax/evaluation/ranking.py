"""Retrieval scores, with J the name of a judge:

r@k_KIND/J          k = 1, 5, 10, 1% (of the gallery, rounded down: Sample4Geo, TransGeo) and 1%+
                    (rounded down, plus one: SAIG, CDE); mrr_KIND/J, the mean reciprocal rank;
                    hit_rate_KIND/J, R@1 with near misses (VIGOR's semi-positives) left out
  KIND: generated   the generated image as query, the sources of the split as gallery
        real        ceiling: the real target as query
        shuffled    floor: the image generated from another source as query
        same_view   the generated image as query, the real targets as gallery
        reverse     the real source as query, the generated images as gallery
"""

import dataclasses
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from retroguide_jax.evaluation.scores import VARIANTS, Score, Scores
from retroguide_jax.metrics import retrieval
from retroguide_jax.parallel.processes import gather_rows


@dataclasses.dataclass(frozen=True)
class Places:
    """A gallery and the right answers of N queries in it.

    Attributes:
      shown: int [R], the pairs whose images form the gallery; further tiles are appended.
      matches: int [N, P], gallery rows that are right for query n, its own one first, padded with
        -1.
      near: int [N, S], gallery rows that show the place too, but away from their centre (VIGOR's
        semi-positives), padded with -1. They count as wrong in R@k and are excluded from the hit
        rate.
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

    An aerial gallery holds each image once, however many pairs share it (VIGOR); the right answers
    are the pair's own image and its other `positives` (CVACT's test: all within 5 m). In a ground
    gallery the right answers are the images whose aerial or positives include the query's
    aerial.

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
        # Keep the order of the pairs, so that the gallery does not depend on how ids sort.
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
    """For each pair, the pairs whose `names` include its aerial, itself first."""
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


RECALL_AT = (1, 5, 10)


def _name(metric: str, kind: str, judge: str) -> Score:
    if kind in VARIANTS:
        return Score(metric, kind, judge)
    return Score(f"{metric}_{kind}", judge=judge)


class Ranker:
    """Adds retrieval scores, one judge at a time.

    Args:
      scores: receives the results.
      columns: see scoring.py.
      views: (source, target), "aerial" and "ground" or the reverse.
      tiles: of the gallery, see `Scorer.embed_tiles`.
      max_bytes: see `retrieval.rank_matches`.
    """

    def __init__(
        self,
        scores: Scores,
        columns: Mapping,
        views: tuple[str, str],
        tiles: Mapping,
        max_bytes: int,
    ):
        self._max_bytes = max_bytes
        self._scores, self._columns, self._tiles = scores, columns, tiles
        source_view, target_view = views
        self._has_source = any(name.startswith("source/") for name in columns)
        tile_ids = tiles.get("id")
        self._sources = find_places(columns, source_view, tile_ids)
        self._targets = find_places(columns, target_view)
        # There is one generated image per pair, whichever view it is of.
        self._generated = find_places(columns, "ground")

    def add(self, judge: str, metrics: Sequence[str]) -> None:
        """Adds the scores of `metrics` by one judge, as far as the columns allow."""
        columns = self._columns
        real, generated = columns[f"real/{judge}"], columns.get(f"generated/{judge}")
        samples = [] if generated is None else [generated[:, k] for k in range(generated.shape[1])]
        if "retrieval" in metrics and self._has_source:
            gallery = columns[f"source/{judge}"][self._sources.shown]
            if judge in self._tiles:
                gallery = np.concatenate([gallery, self._tiles[judge]])
            self._add_kind("real", judge, [real], gallery, self._sources)
            if samples:
                self._add_kind("generated", judge, samples, gallery, self._sources)
                # Adjacent rows are partners unless they show the same place; in an odd number
                # the last has none.
                rows, own = np.arange(len(real) // 2 * 2), columns["aerial_id"]
                rows = rows[own[rows] != own[rows ^ 1]]
                if len(rows):
                    queries, places = samples[0][rows ^ 1], self._sources.take(rows)
                    self._add_kind("shuffled", judge, [queries], gallery, places, keep=False)
        if "retrieval_same_view" in metrics and samples:
            gallery = real[self._targets.shown]
            self._add_kind("same_view", judge, samples, gallery, self._targets)
        if "retrieval_reverse" in metrics and samples and self._has_source:
            queries = columns[f"source/{judge}"]
            ranks = [self._rank(queries, rows, self._generated) for rows in samples]
            self._add_ranks("reverse", judge, ranks, len(samples[0]))

    def _add_kind(
        self,
        kind: str,
        judge: str,
        queries: Sequence[np.ndarray],
        gallery: np.ndarray,
        places: Places,
        *,
        keep: bool = True,
    ) -> None:
        ranks = [self._rank(rows, gallery, places) for rows in queries]
        self._add_ranks(kind, judge, ranks, len(gallery), keep=keep)
        if (places.near >= 0).any():
            hits = [self._rank(rows, gallery, places, leave_out=True)[0] for rows in queries]
            values = np.stack(hits, axis=1) <= 1
            self._scores.add_mean(_name("hit_rate", kind, judge), values, keep=False)

    def _add_ranks(self, kind: str, judge: str, found, num_gallery: int, *, keep=True) -> None:
        ranks = np.stack([ranks for ranks, _ in found], axis=1)
        floor, plus = retrieval.recall_percent_k(num_gallery)
        limits = {**{str(k): k for k in RECALL_AT}, "1%": floor, "1%+": plus}
        for k, limit in limits.items():
            self._scores.add_mean(_name(f"r@{k}", kind, judge), ranks <= limit, keep=False)
        self._scores.add_mean(_name("mrr", kind, judge), 1 / ranks, keep=False)
        if keep:
            self._scores.per_image[_name("rank", kind, judge).text] = ranks
        self._scores.ties[f"{kind}/{judge}"] = int(max(num_tied for _, num_tied in found))

    def _rank(self, queries, gallery, places: Places, leave_out: bool = False):
        """Ranks [N] and the number of tied queries; each process ranks its share of the queries."""
        share = np.array_split(np.arange(len(queries)), jax.process_count())[jax.process_index()]
        excluded = places.near[share] if leave_out else None
        found = retrieval.rank_matches(
            queries[share],
            gallery,
            places.matches[share],
            excluded=excluded,
            max_bytes=self._max_bytes,
        )
        ranks = gather_rows(found.ranks)
        num_tied = int(np.sum(gather_rows(np.array([found.num_tied_queries]))))
        return ranks, num_tied
