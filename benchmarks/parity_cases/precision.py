"""Runs all of our side in float64, where rounding is too small to hide a difference.

Our code uses float32 in two places, whatever its input. Statistics name float32, which is patched
to mean float64. The softmax in `jax.nn.dot_product_attention` is JAX's own, so that function is
replaced by its formula.
"""

import contextlib
import sys
from collections.abc import Iterator
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

# Packages in which statistics are declared to be float32.
_PACKAGES = ("retroguide_jax.models", "retroguide_jax.training")


class _Wide:
    """jax.numpy with float64 under the name float32."""

    float32 = jnp.float64

    def __getattr__(self, name: str):
        return getattr(jnp, name)


def _attend(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    """softmax(Q K^T / sqrt(d)) V of [B, N, heads, d]."""
    logits = jnp.einsum("bqhd,bkhd->bhqk", query, key) / jnp.sqrt(query.shape[-1])
    return jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(logits), value)


@contextlib.contextmanager
def use(dtype: np.dtype) -> Iterator[None]:
    """Context manager: our side computes in this type; do not call functions compiled outside."""
    if dtype == np.float32:
        yield
        return
    with contextlib.ExitStack() as stack:
        stack.enter_context(jax.enable_x64(True))
        for name, module in list(sys.modules.items()):
            if name.startswith(_PACKAGES) and getattr(module, "jnp", None) is jnp:
                stack.enter_context(mock.patch.object(module, "jnp", _Wide()))
        stack.enter_context(mock.patch.object(jax.nn, "dot_product_attention", _attend))
        yield


def widen(module, dtype: np.dtype):
    """Returns the Linen module with this type as its computation type."""
    return module.clone(dtype=dtype) if hasattr(module, "dtype") else module


def widen_state(state: Any, dtype: np.dtype) -> Any:
    """Returns a tree of NumPy arrays, floats in this type.

    Integers get the same width: JAX divides int32 in float32, which would round the learning rate.
    """

    def cast(x: np.ndarray) -> np.ndarray:
        is_float = np.issubdtype(x.dtype, np.floating)
        return x.astype(dtype if is_float else f"int{8 * dtype.itemsize}")

    return jax.tree.map(cast, state)
