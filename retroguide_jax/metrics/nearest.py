"""The k nearest gallery items of each query, exactly."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from retroguide_jax.metrics import products


class Nearest(NamedTuple):
    """Outcome of `find_nearest` for Q queries.

    indices: int64 [Q, k], gallery rows, the nearest first.
    similarities: float64 [Q, k], descending.
    """

    indices: np.ndarray
    similarities: np.ndarray


def find_nearest(
    queries: np.ndarray,
    gallery: np.ndarray,
    k: int,
    *,
    max_bytes: int = products.MAX_BYTES,
    devices: Sequence[jax.Device] | None = None,  # pyright: ignore[reportInvalidTypeForm]
) -> Nearest:
    """The k most similar gallery items of each query.

    Args:
      queries: float32 [Q, D], unit rows.
      gallery: float32 [R, D], unit rows; may be a memory map.
      k: number of items per query, 1..R.
      max_bytes, devices: as in `retrieval.rank_matches`.

    Similarity is the dot product in float64; of equally similar items the one that comes first in
    the gallery is the nearer. The search is exact: a chunk's float32 products, and the k best items
    so far, give a threshold that an item must reach to be among the k best, and all items that
    reach it to within the rounding error are compared in float64. The result does not depend on
    `max_bytes` or `devices`. Galleries that mostly consist of equal rows are slow.

    Raises:
      UserError: an embedding is not finite.
      ValueError: shapes do not fit, a row is not of length 1 (to 1e-3), k lies outside 1..R, or
        `max_bytes` is too little.
    """
    queries, gallery = products.check_shapes(queries, gallery)
    products.check_lengths("query", queries)
    num_items, dim = gallery.shape
    if not 1 <= k <= num_items:
        raise ValueError(f"k={k} must lie in 1..{num_items}, the number of gallery items")
    best = Nearest(np.full((len(queries), k), -1), np.full((len(queries), k), -np.inf))
    single, double = (products.bound_error(dim, dtype) for dtype in (np.float32, np.float64))
    num_rows, num_columns = products.plan_tile(len(queries), num_items, dim, max_bytes)
    tiles = products.Tiles(num_rows, num_columns, devices)
    nothing = np.empty((len(queries), 0), np.int64)
    for part in products.split_range(num_items, num_columns):
        items = gallery[part]
        # Check per chunk, so that a memory map is read from disk once.
        products.check_lengths("gallery", items)
        tiles.load(items)
        for rows in products.split_range(len(queries), num_rows):
            least = best.similarities[rows, -1]
            low = (least - single).astype(np.float32)
            near, _ = tiles.select(
                _select_top, queries[rows], nothing[rows], low, k=k, slack=2 * single
            )
            if near is None:
                similarity = products.multiply_in_float64(queries[rows], items, nothing[rows])
                (near,) = _select_top(np, similarity, least - double, k=k, slack=2 * double)
                near = np.flatnonzero(near)
            for pairs in products.split_pairs(near):
                similarity = products.multiply_pairs(queries[rows], items, pairs)
                query, item = np.divmod(pairs, len(items))
                _merge(Nearest(*(x[rows] for x in best)), query, item + part.start, similarity)
    return best


def _select_top(xp, similarity, low, *, k: int, slack: float) -> tuple:
    """Pairs that may be among the k best: as similar as `low` and as the k-th best of the chunk.

    The k-th largest of the maxima of groups is no larger than the k-th largest of all, and is found
    faster. `slack` is twice the rounding error: the items that set the threshold have that error,
    and so has the item that must reach it.
    """
    num_items = similarity.shape[1]
    if num_items >= k:
        size = 2 ** min(6, max(0, (num_items // (8 * k)).bit_length() - 1))
        groups = similarity[:, : num_items // size * size].reshape(len(similarity), size, -1)
        low = xp.maximum(low, xp.sort(groups.max(axis=1), axis=1)[:, -k] - slack)
    return (similarity >= low[:, None],)


def _merge(best: Nearest, query: np.ndarray, index: np.ndarray, similarity: np.ndarray) -> None:
    """Merges items into the k best so far, all of which come earlier in the gallery."""
    k = best.indices.shape[1]
    is_better = similarity > best.similarities[query, -1]
    touched, query = np.unique(query[is_better], return_inverse=True)
    query = np.concatenate([np.repeat(np.arange(len(touched)), k), query])
    index = np.concatenate([best.indices[touched].ravel(), index[is_better]])
    similarity = np.concatenate([best.similarities[touched].ravel(), similarity[is_better]])
    order = np.lexsort((-similarity, query))  # stable: equal ones stay in the gallery's order
    starts = np.searchsorted(query[order], np.arange(len(touched)))
    kept = order[starts[:, None] + np.arange(k)]
    best.indices[touched], best.similarities[touched] = index[kept], similarity[kept]
