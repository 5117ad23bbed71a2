"""Banks: vectors that earlier updates computed, kept beside the few of one update.

The generator's batch may be small. InfoNCE with three negatives is easy to satisfy, and two encoded
styles say little of how styles are distributed. The guide's embeddings of earlier sources and the
style encoder's codes of earlier targets cost nothing more (a queue as in MoCo, He et al., 2020;
the guide, like their encoder, is an average that moves slowly). A bank is part of the training
state, so that a resumed run has it, and is the same on any number of devices.
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


def add(bank: Bank, rows: jax.Array, place: jax.Array | None = None) -> Bank:
    """The bank with its n oldest rows replaced by `rows` [n, width]; n must divide its size.

    `place`: [n] int32; rows of equal places are not negatives of each other; None: unknown.
    """
    num, size = rows.shape[0], bank["rows"].shape[0]
    place = jnp.full((num,), NO_PLACE) if place is None else place
    first = bank["count"] % size

    def replace(old: jax.Array, new: jax.Array) -> jax.Array:
        return jax.lax.dynamic_update_slice_in_dim(old, new.astype(old.dtype), first, 0)

    return {
        "rows": replace(bank["rows"], rows),
        "place": replace(bank["place"], place),
        "count": bank["count"] + num,
    }


def filled(bank: Bank) -> jax.Array:
    """[size] bool: which rows have been added."""
    return jnp.arange(bank["rows"].shape[0]) < bank["count"]
