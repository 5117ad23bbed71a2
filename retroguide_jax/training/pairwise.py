"""Losses over all pairs of a batch; no device ever holds all B x B similarities.

Under `jit` on global arrays that are sharded over the devices, `gather_fn` brings all rows of
`target` to each device (`parallel.mesh.replicate`). Each device then holds the similarities of its
own B / devices rows of `source`; `chunk` also splits the columns, so that at most
B / devices x chunk similarities exist at a time. Each block is recomputed for its gradient. Neither
changes the result beyond rounding.

`place`, where given, numbers the places that rows show: rows of the same place are not negatives of
each other, and do not compete in the retrieval accuracy.

Products have full float32 precision: divided by a temperature of 0.02, bfloat16 products, the
default on TPUs, would be wrong in the first decimal.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from retroguide_jax.bank import Bank, filled


def _keep(rows: jax.Array) -> jax.Array:
    return rows


def info_nce(
    source: jax.Array,
    target: jax.Array,
    scale: jax.Array | float,
    chunk: int = 0,
    gather_fn: Callable[[jax.Array], jax.Array] = _keep,
    place: jax.Array | None = None,
    bank: Bank | None = None,
) -> jax.Array:
    """Symmetric InfoNCE over in-batch negatives and, for the rows of `source`, those of a bank.

    Row i of `source` and row i of `target` are the only positives. The rows are the global batch,
    so the negatives are global and the loss does not depend on the device count.

    Args:
      source: [B, D], unit rows.
      target: [B, D], unit rows.
      scale: inverse temperature.
      chunk: columns at a time, a divisor of B; 0: all.
      gather_fn: see the module.
      place: [B] int, or None; see the module.
      bank: further negatives of `source`, see `retroguide_jax.bank`.

    Returns:
      The mean of both directions' cross-entropies, a scalar (van den Oord et al., 2018; CLIP).
    """

    ids = jnp.arange(source.shape[0])
    place = ids if place is None else place

    def block(columns, column_ids, column_place):
        logits = scale * _multiply(source, columns)
        twins = (place[:, None] == column_place) & (ids[:, None] != column_ids)
        logits = jnp.where(twins, -jnp.inf, logits)
        return jax.nn.logsumexp(logits, 1), jax.nn.logsumexp(logits, 0)

    rows, columns = _over_blocks(block, chunk, gather_fn(target), ids, gather_fn(place))
    # Both rows of a pair are on one device already; gathered rows would exchange gradients too.
    positive = scale * (source * target).sum(-1)
    if bank:
        others = filled(bank) & (place[:, None] != bank["place"])
        logits = jnp.where(others, scale * _multiply(source, bank["rows"]), -jnp.inf)
        rows = jnp.concatenate([rows, jax.nn.logsumexp(logits, 1)[None]])
    forward, backward = jax.nn.logsumexp(rows, 0), columns.reshape(-1)
    return 0.5 * (forward + backward - 2.0 * positive).mean()


def soft_margin_triplet(
    source: jax.Array,
    target: jax.Array,
    alpha: float = 10.0,
    chunk: int = 0,
    gather_fn: Callable[[jax.Array], jax.Array] = _keep,
    place: jax.Array | None = None,
) -> jax.Array:
    """log(1 + exp(alpha (d_pos - d_neg))) over all in-batch negatives, both directions (CVM-Net).

    Squared distances of unit rows, d = 2 - 2 cos. Inputs [B, D]; a scalar, 0 where there are no
    negatives; `chunk`, `gather_fn` and `place` as in `info_nce`.
    """
    positive = (source * target).sum(-1)

    place = jnp.arange(source.shape[0]) if place is None else place

    def block(columns, own, column_place):
        similarity = _multiply(source, columns)
        others = place[:, None] != column_place
        by_row = jax.nn.softplus(2.0 * alpha * (similarity - positive[:, None]))
        by_column = jax.nn.softplus(2.0 * alpha * (similarity - own))
        return jnp.where(others, by_row + by_column, 0.0).sum(1), others.sum(1)

    blocks = gather_fn(target), gather_fn(positive), gather_fn(place)
    total, num = _over_blocks(block, chunk, *blocks)
    return total.sum() / (2.0 * jnp.maximum(num.sum(), 1))


def retrieval_accuracy(
    source: jax.Array,
    target: jax.Array,
    chunk: int = 0,
    gather_fn: Callable[[jax.Array], jax.Array] = _keep,
    place: jax.Array | None = None,
) -> jax.Array:
    """Share of the rows of `source` [B, D] whose own row of `target` [B, D] is the nearest.

    A tie is a miss, so that a constant embedding gets no credit. No gradient. `chunk`, `gather_fn`
    and `place` as in `info_nce`.
    """
    ids = jnp.arange(source.shape[0])
    place = ids if place is None else place

    def block(columns, column_ids, column_place):
        similarity = _multiply(source, columns)
        own = ids[:, None] == column_ids
        alike = place[:, None] == column_place
        return (
            jnp.where(own, similarity, -jnp.inf).max(1),
            jnp.where(alike, -jnp.inf, similarity).max(1),
        )

    source, target = jax.lax.stop_gradient((source, target))
    own, others = _over_blocks(block, chunk, gather_fn(target), ids, gather_fn(place))
    return (own.max(0) > others.max(0)).mean()


def _multiply(rows: jax.Array, columns: jax.Array) -> jax.Array:
    return jnp.matmul(rows, columns.T, precision=jax.lax.Precision.HIGHEST)


def _over_blocks(fn: Callable, chunk: int, *arrays: jax.Array):
    """Applies fn to blocks of `chunk` rows of arrays [B, ...]; stacks results [B / chunk, ...]."""
    batch = arrays[0].shape[0]
    if chunk in (0, batch):
        return jax.tree.map(lambda result: result[None], fn(*arrays))
    blocks = [array.reshape(batch // chunk, chunk, *array.shape[1:]) for array in arrays]
    return jax.lax.map(lambda block: jax.checkpoint(fn)(*block), blocks)
