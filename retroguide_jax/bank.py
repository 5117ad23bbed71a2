"""A bank of embeddings: negatives of the retrieval loss beyond those of one update.

The generator's batch may be small, and InfoNCE with three negatives is easy to satisfy. The guide's
embeddings of earlier sources cost nothing more (a queue as in MoCo, He et al., 2020; their encoder,
as here, is an average that moves slowly). The bank is part of the training state, so that a
resumed run has it, and is the same on any number of devices.
"""

from typing import Any

import jax
import jax.numpy as jnp

Bank = dict[str, Any]

NO_PLACE = -1  # equal to no batch's place


def create(size: int, width: int) -> Bank:
    """An empty bank: {"rows": [size, width], "place": int32 [size], "count": rows ever added}."""
    return {
        "rows": jnp.zeros((size, width)),
        "place": jnp.full((size,), NO_PLACE, jnp.int32),
        "count": jnp.zeros((), jnp.int32),
    }


def add(bank: Bank, embeddings: jax.Array, place: jax.Array | None = None) -> Bank:
    """The bank with its n oldest rows replaced by unit rows [n, width]; n must divide its size.

    `place`: [n] int32; rows of equal places are not negatives of each other; None: unknown.
    """
    num, size = embeddings.shape[0], bank["rows"].shape[0]
    place = jnp.full((num,), NO_PLACE) if place is None else place
    first = bank["count"] % size

    def replace(old: jax.Array, new: jax.Array) -> jax.Array:
        return jax.lax.dynamic_update_slice_in_dim(old, new.astype(old.dtype), first, 0)

    return {
        "rows": replace(bank["rows"], embeddings),
        "place": replace(bank["place"], place),
        "count": bank["count"] + num,
    }


def filled(bank: Bank) -> jax.Array:
    """[size] bool: which rows hold an embedding."""
    return jnp.arange(bank["rows"].shape[0]) < bank["count"]
