"""Ranks of true matches and recall at k.

Two habits of the field are left out on purpose. Counting only strictly better items gives a
constant embedding R@1 = 100 %; here ties count half. And the whole query x gallery matrix is never
held: VIGOR's would need more than 16 GB.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from retroguide_jax.errors import UserError

# Two similarities of unit rows are tied when they differ by at most this much. The float32 dot
# product of one and the same pair changes by a few 1e-7 with the shape of the product it is part
# of; a tie must not be broken by that.
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
    query_chunk: int = 1024,
    gallery_chunk: int = 8192,
) -> Ranks:
    """Rank of each query's nearest true match in the gallery, ties counted half.

    Args:
        queries: float32 [Q, D], unit rows.
        gallery: float32 [R, D], unit rows.
        matches: int [Q], the gallery row that is the query's true match; or [Q, P] where some have
            several, of which the first is always one and -1 fills up the rest.
        query_chunk: queries compared at a time.
        gallery_chunk: gallery items compared at a time; memory is query_chunk x gallery_chunk.

    Similarity is the dot product in float32 (highest matmul precision). Item j is tied with the
    true match t when |s_j - s_t| <= 1e-6 and strictly better when s_j > s_t + 1e-6, t being the
    most similar of several. True matches themselves are neither. A constant embedding therefore
    ranks every match in the middle, at (R+1)/2.

    Raises:
        UserError: an embedding is not finite. A NaN compares false with everything, so it would
            otherwise rank first.
        ValueError: shapes do not fit, or a match lies outside the gallery.
    """
    queries = np.asarray(queries, np.float32)
    gallery = np.asarray(gallery, np.float32)
    matches = np.asarray(matches, np.int32)
    if queries.ndim != 2 or gallery.ndim != 2 or queries.shape[1] != gallery.shape[1]:
        raise ValueError(f"queries {queries.shape} and gallery {gallery.shape} must be [N, D]")
    matches = matches[:, None] if matches.ndim == 1 else matches
    if matches.ndim != 2 or matches.shape[:1] != queries.shape[:1]:
        raise ValueError(f"matches {matches.shape} must name an item for each query")
    is_known = -1 <= matches.min(initial=0) and matches.max(initial=0) < len(gallery)
    if not is_known or matches[:, 0].min(initial=0) < 0:
        raise ValueError(f"matches must lie in 0..{len(gallery) - 1}, with -1 for none")
    for name, rows in (("query", queries), ("gallery", gallery)):
        num_bad = int(np.sum(~np.all(np.isfinite(rows), axis=1)))
        if num_bad:
            raise UserError(
                f"{num_bad} of {len(rows)} {name} embeddings are not finite; "
                "the model has diverged: evaluate an earlier checkpoint"
            )

    query_chunk = min(query_chunk, len(queries))
    gallery_chunk = min(gallery_chunk, len(gallery))
    num_better = np.zeros(len(queries), np.int64)
    num_tied = np.zeros(len(queries), np.int64)
    for q in range(0, len(queries), query_chunk):
        rows = _pad_rows(queries[q : q + query_chunk], query_chunk)
        match = _pad_rows(matches[q : q + query_chunk], query_chunk)
        num_rows = min(query_chunk, len(queries) - q)
        similarity = _row_similarity(rows[:, None], gallery[match])
        true_similarity = jnp.max(jnp.where(match >= 0, similarity, -jnp.inf), axis=1)
        for g in range(0, len(gallery), gallery_chunk):
            items = gallery[g : g + gallery_chunk]
            better, tied = _count_chunk(
                rows,
                _pad_rows(items, gallery_chunk),
                true_similarity,
                match - g,
                len(items),
            )
            num_better[q : q + num_rows] += np.asarray(better)[:num_rows]
            num_tied[q : q + num_rows] += np.asarray(tied)[:num_rows]
    return Ranks(1.0 + num_better + 0.5 * num_tied, int(np.sum(num_tied > 0)))


def compute_recall(ranks: np.ndarray, k: int) -> float:
    """Share of queries whose true match ranks k-th or better, in [0, 1]; `ranks` is [Q]."""
    return float(np.mean(np.asarray(ranks) <= k))


def _pad_rows(rows: np.ndarray, size: int) -> np.ndarray:
    """Fills up to `size` rows by repeating the last one, so that each shape compiles once."""
    missing = size - len(rows)
    return np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)]) if missing else rows


@jax.jit
def _row_similarity(queries: jax.Array, items: jax.Array) -> jax.Array:
    return jnp.sum(queries * items, axis=-1)


@jax.jit
def _count_chunk(
    queries: jax.Array,
    items: jax.Array,
    true_similarity: jax.Array,
    match: jax.Array,
    num_items: int,
) -> tuple[jax.Array, jax.Array]:
    """Strictly better and tied items of one chunk, int32 [q] each; `match` is [q, P], any row."""
    similarity = jnp.matmul(queries, items.T, precision=jax.lax.Precision.HIGHEST)
    column = jnp.arange(items.shape[0])
    counted = jnp.broadcast_to(column < num_items, similarity.shape)
    for k in range(match.shape[1]):  # few, and a [q, items, P] array would not be
        counted &= column[None, :] != match[:, k, None]
    difference = similarity - true_similarity[:, None]
    better = jnp.sum(counted & (difference > TIE_TOLERANCE), axis=1)
    tied = jnp.sum(counted & (jnp.abs(difference) <= TIE_TOLERANCE), axis=1)
    return better, tied
