"""Random arrays for both sides, drawn by NumPy from a name, with PyTorch's names and axes."""

import zlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from retroguide_jax.torch_layout.axes import from_torch, to_torch
from retroguide_jax.torch_layout.names import name_parameter


def draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal float64 that depends only on the name; RandomState's stream never changes."""
    return np.random.RandomState(zlib.crc32(name.encode())).normal(size=shape)


def draw_unit(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Rows of unit length."""
    rows = draw(name, shape)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def draw_variables(shapes: Any, dtype: Any) -> Any:
    """Fills a tree of Linen variables with random values, so that no parameter starts at zero.

    Kernels are scaled so that activations stay of order 1; scales of norms and running variances
    lie around 1. Values are drawn under PyTorch's names and in its order of axes.
    """

    def fill(path: str, leaf: Any) -> np.ndarray:
        name = name_parameter(path.split("/", 1)[1])
        shape = to_torch(f"/{path}", np.empty(leaf.shape)).shape
        values = draw(name, shape)
        if name.endswith("running_var"):
            values = np.exp(0.3 * values)
        elif path.endswith("/kernel"):
            values = values / np.sqrt(np.prod(shape[1:]))
        elif name.endswith("weight"):
            values = 1.0 + 0.3 * values
        else:
            values = 0.3 * values
        return from_torch(f"/{path}", values, leaf.shape)[0].astype(dtype)

    return _map_paths(fill, shapes)


def flatten(tree: Any) -> dict[str, np.ndarray]:
    """The leaves of a tree of Linen parameters or statistics under PyTorch's names, in its axes."""
    found = {}
    _map_paths(lambda path, leaf: found.update({path: leaf}), tree)
    return {name_parameter(path): to_torch(f"/{path}", np.asarray(x)) for path, x in found.items()}


def swap(array: np.ndarray) -> np.ndarray:
    """Maps [B, H, W, C] as NCHW; other arrays as they are."""
    return array.transpose(0, 3, 1, 2) if array.ndim == 4 else array


def load(module, arrays: Mapping[str, np.ndarray], dtype: Any) -> None:
    """Loads weights and statistics into a PyTorch module, in this floating type."""
    import torch

    module.to(getattr(torch, np.dtype(dtype).name))
    tensors = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
    module.load_state_dict(tensors)


def _map_paths(fn, tree: Any) -> Any:
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: fn("/".join(key.key for key in path), leaf), tree
    )
