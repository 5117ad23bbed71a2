"""Exact search for the most similar entries of an index."""

from collections.abc import Sequence

import jax
import numpy as np

from retroguide_jax.errors import UserError
from retroguide_jax.metrics import products
from retroguide_jax.metrics.nearest import Nearest, find_nearest
from retroguide_jax.retrieval.index import Index


def search(
    index: Index,
    queries: np.ndarray,
    top: int,
    *,
    max_bytes: int = products.MAX_BYTES,
    devices: Sequence[jax.Device] | None = None,  # pyright: ignore[reportInvalidTypeForm]
) -> Nearest:
    """Finds the K = min(top, N) entries most similar to each query, exactly (`find_nearest`).

    Args:
      index: of N images.
      queries: float32 [Q, D], unit rows from the embedder that made the index.
      top: at least 1.
      max_bytes, devices: as in `find_nearest`.

    Returns:
      Rows of the index, `indices` int64 [Q, K], and `similarities` float64 [Q, K], descending; of
      equally similar entries the first in the index comes first.

    Raises:
      UserError: `top` is below 1, the queries have another length than the rows of the index, or
        the index has rows that are not of unit length.
    """
    if top < 1:
        raise UserError(f"top={top}: must be at least 1")
    if queries.shape[1:] != index.embeddings.shape[1:]:
        raise UserError(
            f"{index.path}: holds embeddings [{index.embeddings.shape[1]}], the queries are "
            f"{list(queries.shape)}; embed them with the model that made the index"
        )
    k = min(top, len(index))
    try:
        return find_nearest(queries, index.embeddings, k, max_bytes=max_bytes, devices=devices)
    except ValueError as error:
        raise UserError(
            f"{index.path}: cannot be searched: {error}; make the index again"
        ) from None
