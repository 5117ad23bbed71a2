"""From columns, one row an image, to figures with intervals.

Names of figures, with J the name of a judge:

METRIC              of the generated images: mean over images and noises
METRIC_shuffled     floor: the image generated from another source against the target
METRIC_mean_image   floor: the mean training target against each real target
METRIC_real         of the real images
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
from typing import Any

import jax
import numpy as np

from retroguide_jax.evaluation import registry
from retroguide_jax.evaluation.galleries import Places, find_places
from retroguide_jax.metrics import diversity, retrieval, statistics
from retroguide_jax.parallel.processes import gather_rows

RECALL_AT = (1, 5, 10)


class Figures:
    """The figures of one row, those that are absent, and what they were made from.

    Attributes:
      metrics: name -> {"value", "low", "high", "n"} with the ends of the 95 % interval, and of
        several noises "noise_std", the standard deviation of the figure over them. An infinite
        figure has no number in JSON: value, low and high are then None and "infinite" says how many
        images are so.
      absent: [{"name", "reason"}].
      ties: "KIND/J" -> number of queries with tied items.
      seed: of the bootstrap.
      per_image: name -> [N] or [N, K], for `results.write_per_image`.
    """

    def __init__(self, seed: int):
        self.seed = seed
        self.metrics: dict[str, dict[str, Any]] = {}
        self.absent: list[dict[str, str]] = []
        self.ties: dict[str, int] = {}
        self.per_image: dict[str, np.ndarray] = {}

    def add_mean(self, name: str, values: np.ndarray, *, keep: bool = True) -> None:
        """Adds the mean of [N] or [N, K] figures; rows that are NaN are left out of it.

        Args:
          name: of the figure.
          values: one an image, or one an image and noise.
          keep: also list them image by image.
        """
        values = np.asarray(values, np.float64)
        table = values[:, None] if values.ndim == 1 else values
        if keep:
            self.per_image[name] = values
        known = table[~np.isnan(table).any(axis=1)]
        if not len(known):
            self.add_absent(name, "is defined for none of the images")
            return
        num_infinite = int(np.sum(np.isinf(known).any(axis=1)))
        if num_infinite:
            nothing = dict.fromkeys(("value", "low", "high"))
            self.metrics[name] = {**nothing, "n": len(known), "infinite": num_infinite}
            return
        found = statistics.bootstrap_mean(known.mean(axis=1), seed=self.seed)
        self.add(name, found.value, found.low, found.high, len(known), known.mean(axis=0))

    def add(
        self,
        name: str,
        value: float,
        low: float,
        high: float,
        num: int,
        per_noise: Sequence[float] = (),
        reason: str = "is not finite",
    ) -> None:
        """Adds a figure, or lists it as absent for `reason` where it is not finite."""
        if not np.isfinite(value):
            self.add_absent(name, reason)
            return
        ends = {"low": float(low), "high": float(high)} if np.isfinite([low, high]).all() else {}
        self.metrics[name] = {"value": float(value), "low": None, "high": None, **ends}
        self.metrics[name]["n"] = int(num)
        if len(per_noise) > 1:
            self.metrics[name]["noise_std"] = float(np.std(per_noise, ddof=1))

    def add_absent(self, name: str, reason: str) -> None:
        """Lists a figure that could not be computed."""
        self.absent.append({"name": name, "reason": reason})


def summarize(
    columns: Mapping[str, np.ndarray],
    metrics: Sequence[str],
    judges: Sequence[str],
    *,
    source_view: str,
    target_view: str,
    tiles: Mapping[str, np.ndarray],
    seed: int,
    max_bytes: int,
) -> Figures:
    """All figures that the columns allow.

    Args:
      columns: see scoring.py.
      metrics: names of the registry.
      judges: names.
      source_view, target_view: "aerial" and "ground", or the reverse.
      tiles: of the gallery, see `Scorer.embed_tiles`.
      seed: of the bootstrap.
      max_bytes: see `retrieval.rank_matches`.
    """
    figures = Figures(seed)
    figures.per_image["id"] = columns["id"]
    _add_means(figures, columns, metrics)
    if registry.list_group(metrics, "retrieval"):
        ranker = _Ranker(figures, columns, (source_view, target_view), tiles, max_bytes)
        for judge in judges:
            ranker.add(judge, metrics)
    _add_noise(figures, columns, metrics)
    _explain_absence(figures, columns, metrics, judges)
    return figures


def _add_means(figures: Figures, columns: Mapping, metrics: Sequence[str]) -> None:
    for name in registry.list_group(metrics, "pair", "masked", "lpips", "alone"):
        if name == "sharpness_ratio":
            _add_sharpness(figures, columns)
            continue
        for variant in ("", "_shuffled", "_mean_image", "_real"):
            if name + variant in columns:
                figures.add_mean(name + variant, columns[name + variant], keep=not variant)
        if registry.METRICS[name].group == "masked" and name not in columns:
            figures.add_absent(name, "needs sky masks of the ground target")
    for name in LAYOUT if "layout" in metrics else ():
        for variant in ("", "_shuffled", "_mean_image", "_real"):
            if name + variant in columns:
                figures.add_mean(name + variant, columns[name + variant], keep=not variant)


LAYOUT = ("label_agreement", "mean_iou", "skyline_error", "depth_error")


def _add_sharpness(figures: Figures, columns: Mapping) -> None:
    if "sharpness_ratio" not in columns:
        return
    generated = np.asarray(columns["sharpness_ratio"], np.float64)
    real = np.asarray(columns["sharpness_ratio_real"], np.float64)
    if not real.mean():
        figures.add_absent("sharpness_ratio", "the real images are all flat")
        return
    found = statistics.bootstrap_ratio(generated.mean(axis=1), real, seed=figures.seed)
    per_noise = generated.mean(axis=0) / real.mean()
    figures.add("sharpness_ratio", found.value, found.low, found.high, len(real), per_noise)
    figures.per_image["sharpness_ratio"] = generated / real.mean()


def _add_noise(figures: Figures, columns: Mapping, metrics: Sequence[str]) -> None:
    if "diversity" in metrics:
        if "diversity" in columns:
            figures.add_mean("diversity", columns["diversity"])
        else:
            figures.add_absent("diversity", "needs at least 2 noises")
    if "sky_spread_ratio" in metrics:
        if "sky" not in columns:
            reason = "needs at least 2 noises, a ground target and a data set with sky masks"
            figures.add_absent("sky_spread_ratio", reason)
            return
        sky, real = columns["sky"], columns["sky_real"]
        has_sky = np.isfinite(real).all(axis=-1)

        def compute(sky: np.ndarray, real: np.ndarray) -> float:
            return diversity.compute_sky_spread_ratio(np.swapaxes(sky, 0, 1), real)[0]

        reason = f"needs skies of different colours; {has_sky.sum()} real images show sky"
        value = compute(sky, real)
        if not np.isfinite(value):
            figures.add_absent("sky_spread_ratio", reason)
            return
        found = statistics.bootstrap(compute, (sky[has_sky], real[has_sky]), seed=figures.seed)
        figures.add("sky_spread_ratio", value, found.low, found.high, int(has_sky.sum()))


def _explain_absence(
    figures: Figures, columns: Mapping, metrics: Sequence[str], judges: Sequence[str]
) -> None:
    for name in metrics:
        needs_source = name in ("retrieval", "retrieval_reverse")
        if name == "fd_judge" or registry.METRICS[name].group == "retrieval":
            if not judges:
                figures.add_absent(name, "needs an embedder: give --judge")
            elif needs_source and f"source/{judges[0]}" not in columns:
                figures.add_absent(name, "needs what the images were made from: give --source")
    if "layout" in metrics and "label_agreement" not in columns:
        figures.add_absent("layout", "needs a ground target and procedural_city, which has labels")


class _Ranker:
    """R@k of each kind by one judge after the other."""

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
