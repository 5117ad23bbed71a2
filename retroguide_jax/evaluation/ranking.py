"""Retrieval figures, with J the name of a judge:

r@k_KIND/J          k = 1, 5, 10, 1% (of the gallery, rounded down: Sample4Geo, TransGeo) and 1%+
                    (rounded down, plus one: SAIG, CDE); mrr_KIND/J, the mean reciprocal rank;
                    hit_rate_KIND/J, R@1 with near misses (VIGOR's semi-positives) left out
  KIND: generated   the generated image as query, the sources of the split as gallery
        real        ceiling: the real target as query
        shuffled    floor: the image generated from another source as query
        same_view   the generated image as query, the real targets as gallery
        reverse     the real source as query, the generated images as gallery
"""

from collections.abc import Mapping, Sequence

import jax
import numpy as np

from retroguide_jax.evaluation.figures import Figures
from retroguide_jax.evaluation.galleries import Places, find_places
from retroguide_jax.metrics import retrieval
from retroguide_jax.parallel.processes import gather_rows

RECALL_AT = (1, 5, 10)


class Ranker:
    """Retrieval figures by one judge after the other.

    Args:
      figures: receives them.
      columns: see scoring.py.
      views: (source, target), "aerial" and "ground" or the reverse.
      tiles: of the gallery, see `Scorer.embed_tiles`.
      max_bytes: see `retrieval.rank_matches`.
    """

    def __init__(
        self,
        figures: Figures,
        columns: Mapping,
        views: tuple[str, str],
        tiles: Mapping,
        max_bytes: int,
    ):
        self._max_bytes = max_bytes
        self._figures, self._columns, self._tiles = figures, columns, tiles
        source_view, target_view = views
        self._has_source = any(name.startswith("source/") for name in columns)
        tile_ids = tiles.get("id")
        self._sources = find_places(columns, source_view, tile_ids)
        self._targets = find_places(columns, target_view)
        # The generated images are one a pair, whichever view they are of.
        self._generated = find_places(columns, "ground")

    def add(self, judge: str, metrics: Sequence[str]) -> None:
        """Adds those of `metrics` by one judge, as far as the columns go."""
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
                # Neighbours are partners; the last of an odd number has none.
                rows = np.arange(len(real) // 2 * 2)
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
            self._figures.add_mean(f"hit_rate_{kind}/{judge}", values, keep=False)

    def _add_ranks(self, kind: str, judge: str, found, num_gallery: int, *, keep=True) -> None:
        ranks = np.stack([ranks for ranks, _ in found], axis=1)
        floor, plus = retrieval.recall_percent_k(num_gallery)
        limits = {**{str(k): k for k in RECALL_AT}, "1%": floor, "1%+": plus}
        for k, limit in limits.items():
            self._figures.add_mean(f"r@{k}_{kind}/{judge}", ranks <= limit, keep=False)
        self._figures.add_mean(f"mrr_{kind}/{judge}", 1 / ranks, keep=False)
        if keep:
            self._figures.per_image[f"rank_{kind}/{judge}"] = ranks
        self._figures.ties[f"{kind}/{judge}"] = int(max(num_tied for _, num_tied in found))

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
