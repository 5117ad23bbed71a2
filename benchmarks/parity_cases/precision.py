"""The whole of ours in float64, where rounding is too small to hide a difference.

Two places of ours are bound to float32 whatever their input. Statistics: our code says float32,
which is made to mean float64. The softmax inside `jax.nn.dot_product_attention`: it is JAX's own,
so the function is replaced by its formula.
"""

import contextlib
import sys
from collections.abc import Iterator
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

# Where statistics are said to be float32.
_PACKAGES = ("retroguide_jax.models", "retroguide_jax.training")


class _Wide:
    """jax.numpy, in which float32 means float64."""

    float32 = jnp.float64

    def __getattr__(self, name: str):
        return getattr(jnp, name)


def _attend(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    """softmax(Q K^T / sqrt(d)) V of [B, N, heads, d]."""
    logits = jnp.einsum("bqhd,bkhd->bhqk", query, key) / jnp.sqrt(query.shape[-1])
    return jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(logits), value)


@contextlib.contextmanager
def use(dtype: np.dtype) -> Iterator[None]:
    """Computes in this type; what is compiled outside must not be called inside."""
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
    """A Linen module that computes in this type."""
    return module.clone(dtype=dtype) if hasattr(module, "dtype") else module


def widen_state(state: Any, dtype: np.dtype) -> Any:
    """A tree of NumPy arrays, floats in this type.

    Counts get its width: JAX makes the quotient of an int32 a float32, and so the learning rate.
    """

    def cast(x: np.ndarray) -> np.ndarray:
        is_float = np.issubdtype(x.dtype, np.floating)
        return x.astype(dtype if is_float else f"int{8 * dtype.itemsize}")

    return jax.tree.map(cast, state)
