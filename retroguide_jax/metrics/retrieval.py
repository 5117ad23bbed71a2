"""Ranks of true matches and recall at k.

It differs from common practice in two ways. Ties count half: counting only strictly better items
gives a constant embedding R@1 = 100 %. And the full query x gallery matrix is never held in memory:
VIGOR's would need more than 16 GB.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from retroguide_jax.metrics import products

# Two similarities of unit rows are tied when they differ by at most this much: float32
# embeddings of the same image may differ by as much when computed in different batches.
TIE_TOLERANCE = 1e-6


class Ranks(NamedTuple):
    """Outcome of `rank_matches` for Q queries.

    ranks: float64 [Q], 1 + number of strictly better items + half the number of tied items.
    num_tied_queries: how many queries have at least one other item tied with the true match.
    """

    ranks: np.ndarray
    num_tied_queries: int


def rank_matches(
    queries: np.ndarray,
    gallery: np.ndarray,
    matches: np.ndarray,
    *,
    excluded: np.ndarray | None = None,
    max_bytes: int = products.MAX_BYTES,
    devices: Sequence[jax.Device] | None = None,  # pyright: ignore[reportInvalidTypeForm]
) -> Ranks:
    """Rank of each query's nearest true match in the gallery, ties counted half.

    Args:
      queries: float32 [Q, D], unit rows; a process may give its own share of them.
      gallery: float32 [R, D], unit rows.
      matches: int [Q], the gallery row that is the query's true match; or [Q, P] where some have
        several: the first is always a match, the others are padded with -1.
      excluded: int [Q, S], gallery rows that are left out for the query, padded with -1. R@1 with
        the semi-positives of VIGOR left out is its hit rate (as Sample4Geo computes it).
      max_bytes: memory limit, excluding the embeddings, whatever their number.
      devices: where the products are computed. Default: this process's accelerators, or the
        host's BLAS where there are none.

    Similarity is the dot product in float64. Item j is tied with the true match t when
    |s_j - s_t| <= 1e-6 and strictly better when s_j > s_t + 1e-6, t being the most similar of
    several. True matches themselves are neither. A constant embedding therefore ranks every match
    in the middle, at (R+1)/2. The result does not depend on `max_bytes` or `devices`.

    Raises:
      UserError: an embedding is not finite. A NaN compares false with everything, so it would
        otherwise rank first.
      ValueError: shapes do not fit, a row is not of length 1 (to 1e-3), a match or an excluded
        item lies outside the gallery, or `max_bytes` is too little.
    """
    queries, gallery = products.check_rows(queries, gallery)
    num_items, dim = gallery.shape
    matches = _check_places("matches", matches, len(queries), num_items)
    if matches.shape[1] == 0 or matches[:, 0].min(initial=0) < 0:
        raise ValueError("matches must name an item for each query: the first must not be -1")
    left_out = matches
    if excluded is not None:
        excluded = _check_places("excluded", excluded, len(queries), num_items)
        left_out = np.concatenate([matches, excluded], axis=1)

    true = _match_similarity(queries, gallery, matches)
    reach = TIE_TOLERANCE + products.bound_error(dim, np.float32)
    low, high = (true - reach).astype(np.float32), (true + reach).astype(np.float32)
    num_better = np.zeros(len(queries), np.int64)
    num_tied = np.zeros(len(queries), np.int64)
    num_rows, num_columns = products.plan_tile(len(queries), num_items, dim, max_bytes)
    tiles = products.Tiles(num_rows, num_columns, devices)
    for part in products.split_range(num_items, num_columns):
        items = gallery[part]
        tiles.load(items)
        for rows in products.split_range(len(queries), num_rows):
            away = _shift_places(left_out[rows], part)
            near, (better,) = tiles.select(_select_near, queries[rows], away, low[rows], high[rows])
            if near is None:
                similarity = products.multiply_in_float64(queries[rows], items, away)
                near, better, tied = _sort_out(similarity, true[rows], dim)
                num_tied[rows] += tied
            num_better[rows] += better
            for pairs in products.split_pairs(near):
                query = pairs // len(items)
                difference = products.multiply_pairs(queries[rows], items, pairs)
                difference -= true[rows][query]
                is_better = difference > TIE_TOLERANCE
                is_tied = np.abs(difference) <= TIE_TOLERANCE
                num = rows.stop - rows.start
                num_better[rows] += np.bincount(query[is_better], minlength=num)
                num_tied[rows] += np.bincount(query[is_tied], minlength=num)
    return Ranks(1.0 + num_better + 0.5 * num_tied, int(np.sum(num_tied > 0)))


def compute_recall(ranks: np.ndarray, k: int) -> float:
    """Share of queries whose true match ranks k-th or better, in [0, 1]; `ranks` is [Q]."""
    return float(np.mean(np.asarray(ranks) <= k))


def recall_percent_k(num_gallery: int) -> tuple[int, int]:
    """The two k that papers mean by R@1% in a gallery of R items, each at least 1.

    First floor(R / 100), as Sample4Geo and TransGeo count, then floor(R / 100) + 1, as SAIG and CDE
    do: 88 and 89 for the 8,884 items of CVUSA and CVACT.
    """
    return max(1, num_gallery // 100), num_gallery // 100 + 1


def mean_reciprocal_rank(ranks: np.ndarray) -> float:
    """Mean of 1 / rank, in (0, 1]; `ranks` is [Q] (Voorhees, TREC-8 question answering, 1999)."""
    return float(np.mean(1 / np.asarray(ranks, np.float64)))


def _check_places(name: str, places: Any, num_queries: int, num_items: int) -> np.ndarray:
    places = np.asarray(places, np.int64)
    places = places[:, None] if places.ndim == 1 else places
    if places.ndim != 2 or len(places) != num_queries:
        raise ValueError(f"{name} {places.shape} must name an item for each query")
    if places.min(initial=-1) < -1 or places.max(initial=-1) >= num_items:
        raise ValueError(f"{name} must lie in 0..{num_items - 1}, with -1 for none")
    return places


def _match_similarity(queries, gallery, matches) -> np.ndarray:
    """Similarity float64 [Q] of the nearest true match."""
    query, place = np.nonzero(matches >= 0)
    pairs = query * len(gallery) + matches[query, place]
    similarity = np.full(matches.shape, -np.inf)
    similarity[query, place] = products.multiply_pairs(queries, gallery, pairs)
    return similarity.max(axis=1)


def _shift_places(places: np.ndarray, part: slice) -> np.ndarray:
    """Gallery rows counted from the start of a chunk, -1 for those of other chunks."""
    return np.where((places >= part.start) & (places < part.stop), places - part.start, -1)


def _select_near(xp, similarity, low, high) -> tuple:
    """Pairs that float32 cannot decide (tied or not), and pairs that are certainly better."""
    better = similarity > high[:, None]
    return (similarity >= low[:, None]) ^ better, better


def _sort_out(similarity: np.ndarray, true: np.ndarray, dim: int) -> tuple[np.ndarray, ...]:
    """Undecided pairs, and the numbers of items [q] that are certainly better and certainly tied.

    Overwrites `similarity`, float64 [q, r].
    """
    error = products.bound_error(dim, np.float64)
    similarity -= true[:, None]
    better = np.count_nonzero(similarity > TIE_TOLERANCE + error, axis=1)
    np.abs(similarity, out=similarity)
    similarity -= TIE_TOLERANCE
    tied = np.count_nonzero(similarity < -error, axis=1)
    np.abs(similarity, out=similarity)
    return np.flatnonzero(similarity <= error), better, tied
