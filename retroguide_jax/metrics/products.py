"""Dot products of unit rows: in float32, and again in float64 where float32 cannot decide.

A float32 product of two chunks decides nearly all pairs; the few that lie within its rounding error
of a threshold are multiplied again in float64, each pair by itself. The decisions therefore do not
depend on the chunks, on the devices or on the order in which a library sums.

The error bound, for sums in any order, with or without fused multiply-add,

    |fl(x.y) - x.y| <= g |x|.|y| <= g ||x|| ||y||,   g = D u / (1 - D u),

u being 2^-24 in float32 and 2^-53 in float64 (Higham, Accuracy and Stability of Numerical
Algorithms, 2nd edition, section 3.1; the second step is Cauchy-Schwarz).
"""

import concurrent.futures
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from retroguide_jax.errors import UserError
from retroguide_jax.parallel.local import LocalDevices

MAX_BYTES = 2**30  # 1 GiB
UNIT_TOLERANCE = 1e-3

# Past this share of a tile, multiplying pairs one by one is slower than the whole tile in float64.
_DENSE = 1 / 16
# Larger tiles are no faster on a CPU. Powers of two, as `select` packs eight items into a byte.
_LARGEST_TILE = (2048, 8192)
# With few queries a tile has more items: BLAS threads take as long to start for a small product.
_MOST_ITEMS = 2**17
# Float32 and float64 tile, its masks, and indices and products of pairs, in the worst case.
_BYTES_PER_PAIR = 32
# Two copies of a chunk, one of them in float64.
_BYTES_PER_VALUE = 12
_PAIRS_AT_ONCE = 2**16
_PRODUCTS_AT_ONCE = 2**19  # 2 MiB
_VALUES_AT_ONCE = 2**17  # 1 MiB in float64: stays in a core's cache


def check_rows(queries: Any, gallery: Any) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings as float32 [Q, D] and [R, D], checked.

    Raises:
      UserError, ValueError: as `check_shapes` and `check_lengths`.
    """
    queries, gallery = check_shapes(queries, gallery)
    check_lengths("query", queries)
    check_lengths("gallery", gallery)
    return queries, gallery


def check_shapes(queries: Any, gallery: Any) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings as float32 [Q, D] and [R, D]; does not check values.

    Raises:
      ValueError: shapes do not fit.
    """
    queries, gallery = np.asarray(queries, np.float32), np.asarray(gallery, np.float32)
    if queries.ndim != 2 or gallery.ndim != 2 or queries.shape[1] != gallery.shape[1]:
        raise ValueError(f"queries {queries.shape} and gallery {gallery.shape} must be [N, D]")
    return queries, gallery


def check_lengths(name: str, rows: np.ndarray) -> None:
    """Checks embeddings float32 [N, D], called `name` in errors.

    Raises:
      UserError: an embedding is not finite.
      ValueError: a row's length is further than 1e-3 from 1.
    """
    # |length - 1| <= |length^2 - 1|: rows that float32 finds this close to 1 need no float64.
    close = UNIT_TOLERANCE - bound_error(rows.shape[1], np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.einsum("nd,nd->n", rows, rows)
        doubtful = np.flatnonzero(~(np.abs(squares - 1) <= close))
    num_bad, num_long = 0, 0
    for part in split_range(len(doubtful), 1 + _VALUES_AT_ONCE // (1 + rows.shape[1])):
        values = rows[doubtful[part]].astype(np.float64)  # so that no square overflows
        lengths = np.sqrt(np.einsum("nd,nd->n", values, values))
        num_bad += int(np.sum(~np.isfinite(lengths)))
        num_long += int(np.sum(np.abs(lengths - 1) > UNIT_TOLERANCE))
    if num_bad:
        raise UserError(
            f"{num_bad} of {len(rows)} {name} embeddings are not finite; "
            "the model has diverged: evaluate an earlier checkpoint"
        )
    if num_long:
        raise ValueError(f"{num_long} of {len(rows)} {name} embeddings are not of length 1")


def bound_error(dim: int, dtype: Any) -> float:
    """Largest difference between a product of two rows [D] in `dtype` and by `multiply_pairs`.

    The module docstring derives it. Four more roundings account for those of a threshold and for
    products that underflow.
    """
    is_single = np.dtype(dtype) == np.float32
    rounding = (dim + 4) * (2.0**-24 if is_single else 2.0**-53)
    bound = rounding / (1 - rounding) * (1 + UNIT_TOLERANCE) ** 2
    # In float64 both products have this error; with float32 the exact one's is among the four.
    return bound if is_single else 2 * bound


def plan_tile(num_queries: int, num_items: int, dim: int, max_bytes: int) -> tuple[int, int]:
    """Number of queries and of gallery items multiplied at a time, within `max_bytes` in all.

    Raises:
      ValueError: not even 8 x 8 of them fit.
    """
    rows, columns = _LARGEST_TILE
    while rows >= 2 * num_queries and columns < _MOST_ITEMS:
        rows, columns = rows // 2, columns * 2
    while count_bytes(rows, columns, dim) > max_bytes:
        if columns >= 2 * rows:
            columns //= 2
        else:
            rows //= 2
        if rows < 8:
            least = count_bytes(8, 8, dim)
            raise ValueError(f"max_bytes={max_bytes} is too little; give {least} or more")
    return min(rows, max(num_queries, 1)), min(columns, -(-max(num_items, 1) // 64) * 64)


def count_bytes(num_queries: int, num_items: int, dim: int) -> int:
    """Bytes that a tile of so many queries and gallery items takes in the worst case."""
    values = (num_queries + num_items) * dim
    pairs = num_queries * num_items
    block = 3 * 8 * (_VALUES_AT_ONCE + dim) + 8 * 8 * _PAIRS_AT_ONCE
    return _BYTES_PER_VALUE * values + _BYTES_PER_PAIR * pairs + block


def split_range(stop: int, size: int) -> Iterator[slice]:
    """Slices of `size`, the last one shorter, that cover 0..stop."""
    for start in range(0, stop, size):
        yield slice(start, min(start + size, stop))


def multiply_pairs(queries: np.ndarray, gallery: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Similarity float64 [n] of pairs int [n], each numbered query * R + item.

    Products of float32 values are exact in float64, and every row is summed by itself in one fixed
    order, so a pair's similarity is always the same number.
    """
    similarity = np.empty(len(pairs))
    for part in split_range(len(pairs), 1 + _VALUES_AT_ONCE // (1 + queries.shape[1])):
        row, item = np.divmod(pairs[part], len(gallery))
        similarity[part] = np.multiply(queries[row], gallery[item], dtype=np.float64).sum(axis=1)
    return similarity


def split_pairs(pairs: np.ndarray) -> Iterator[np.ndarray]:
    """Parts of the pairs, each small enough for `multiply_pairs` within the planned memory."""
    for part in split_range(len(pairs), _PAIRS_AT_ONCE):
        yield pairs[part]


def multiply_in_float64(queries: np.ndarray, items: np.ndarray, left_out: np.ndarray) -> np.ndarray:
    """Similarities float64 [q, r] as the library sums them; -inf where left out (int [q, n])."""
    similarity = queries.astype(np.float64) @ items.astype(np.float64).T
    _leave_out(similarity, left_out)
    return similarity


class Tiles:
    """Multiplies chunks of queries with a gallery chunk in float32 and selects pairs.

    `select_fn(xp, similarity [q, r], *columns [q], **options)` gives bool masks [q, r], `xp` being
    `numpy` or `jax.numpy`: first the pairs that must be multiplied again, then those to count.
    """

    def __init__(self, num_queries: int, num_items: int, devices: Sequence[jax.Device] | None):  # pyright: ignore[reportInvalidTypeForm]
        """Limits the size of a tile; `devices` as in `retrieval.rank_matches`."""
        self._num_queries, self._num_items = num_queries, num_items
        # BLAS on the host is faster than XLA's products on the same cores.
        if devices is None and jax.local_devices()[0].platform != "cpu":
            devices = jax.local_devices()
        self._devices = None
        if devices is not None:
            self._devices, self._local = tuple(devices), LocalDevices(devices)
        else:
            self._buffer = np.empty(num_queries * num_items, np.float32)
            # BLAS uses all cores, NumPy's comparisons only one: they are spread over threads.
            self._threads = concurrent.futures.ThreadPoolExecutor()

    def load(self, items: np.ndarray) -> None:
        """Loads the next chunk of the gallery, float32 [r, D]."""
        self._length, self._items = len(items), items
        if self._devices:
            chunk = {"items": _pad_rows(items, self._num_items), "length": np.int32(len(items))}
            self._items = self._local.replicate(chunk)

    def select(
        self,
        select_fn: Callable[..., tuple],
        queries: np.ndarray,
        left_out: np.ndarray,
        *columns: np.ndarray,
        **options: Any,
    ) -> tuple[np.ndarray | None, list[np.ndarray]]:
        """Multiplies queries with the loaded items and selects pairs.

        Args:
          select_fn: see the class.
          queries: float32 [q, D].
          left_out: int [q, n], items of the chunk to ignore; other numbers have no effect.
          columns: float32 [q] each, thresholds.
          options: hashable arguments of `select_fn`.

        Returns:
          Pairs int [n] to multiply again, each numbered query * r + item, ascending, or None where
          they are so many that the entire tile should be multiplied in float64; and counts int [q].
        """
        if self._devices:
            return self._select_on_devices(select_fn, queries, left_out, columns, options)
        size = len(queries) * self._length
        similarity = self._buffer[:size].reshape(len(queries), self._length)
        np.matmul(queries, self._items.T, out=similarity)

        def look(rows: slice) -> tuple[np.ndarray | None, list[np.ndarray]]:
            part = similarity[rows]
            _leave_out(part, left_out[rows])
            near, *counted = select_fn(np, part, *(column[rows] for column in columns), **options)
            is_dense = np.count_nonzero(near) > _DENSE * near.size
            pairs = None if is_dense else np.flatnonzero(near) + rows.start * self._length
            return pairs, [np.count_nonzero(mask, axis=1) for mask in counted]

        num_rows = -(-_PRODUCTS_AT_ONCE // self._length)
        found = list(self._threads.map(look, split_range(len(queries), num_rows)))
        counts = [np.concatenate(parts) for parts in zip(*(c for _, c in found), strict=True)]
        sparse = [pairs for pairs, _ in found if pairs is not None]
        return (np.concatenate(sparse) if len(sparse) == len(found) else None), counts

    def _select_on_devices(self, select_fn, queries, left_out, columns, options):
        run = _compile(self._devices, select_fn, tuple(sorted(options.items())))
        rows = [queries, np.where(left_out < 0, self._num_items, left_out), *columns]
        rows = self._local.spread(*(_pad_rows(row, self._num_queries) for row in rows))
        packed, num_near, *counts = (
            np.asarray(part)[: len(queries)] for part in run(self._items, *rows)
        )
        if num_near.sum() > _DENSE * len(queries) * self._length:
            return None, counts
        places = np.flatnonzero(packed)
        bits = np.unpackbits(packed.reshape(-1)[places, None], axis=1, bitorder="little")
        which, bit = np.nonzero(bits)
        row, column = np.divmod(8 * places[which] + bit, self._num_items)
        return row * self._length + column, counts


@functools.cache
def _compile(devices: tuple, select_fn: Callable[..., tuple], options: tuple) -> Callable:
    def select(chunk, queries, left_out, *columns):
        items = chunk["items"]
        similarity = jax.lax.dot_general(
            queries, items, (((1,), (1,)), ((), ())), precision=jax.lax.Precision.HIGHEST
        )
        is_item = jnp.arange(len(items)) < chunk["length"]
        similarity = jnp.where(is_item, similarity, -jnp.inf)
        row = jnp.arange(len(queries))[:, None]
        similarity = similarity.at[row, left_out].set(-jnp.inf, mode="drop")
        near, *counted = select_fn(jnp, similarity, *columns, **dict(options))
        near &= is_item
        bits = jnp.uint8(1) << jnp.arange(8, dtype=jnp.uint8)
        packed = jnp.where(near.reshape(len(queries), -1, 8), bits, jnp.uint8(0))
        masks = (near, *counted)
        return jnp.sum(packed, axis=2, dtype=jnp.uint8), *(jnp.sum(m, axis=1) for m in masks)

    return LocalDevices(devices).compile(select)


def _leave_out(similarity: np.ndarray, left_out: np.ndarray) -> None:
    row, place = np.nonzero((left_out >= 0) & (left_out < similarity.shape[1]))
    similarity[row, left_out[row, place]] = -np.inf


def _pad_rows(rows: np.ndarray, size: int) -> np.ndarray:
    """Fills up to `size` rows by repeating the last one, so that each shape compiles once."""
    missing = size - len(rows)
    return np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)]) if missing else rows
