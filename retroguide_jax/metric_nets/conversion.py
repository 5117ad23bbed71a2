"""Converts PyTorch state dicts to the variables of frozen networks."""

import hashlib
from collections.abc import Mapping

import numpy as np

from retroguide_jax.errors import UserError

_MOST_NAMED = 5


def take(
    state: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]], source: str
) -> dict[str, np.ndarray]:
    """The arrays of a state dict that a network needs; all others are left out.

    Args:
      state: name -> array.
      shapes: name -> shape, in PyTorch's order of axes.
      source: expected weight file, for the message: "alexnet-owt-7be5be79.pth".

    Returns:
      name -> float32 array, for the names of `shapes`.

    Raises:
      UserError: arrays are missing or have another shape; names them.
    """
    wrong = []
    for name, shape in shapes.items():
        if name not in state:
            wrong.append(f"{name} is missing")
        elif np.shape(state[name]) != shape:
            wrong.append(f"{name} is {list(np.shape(state[name]))}, not {list(shape)}")
    if wrong:
        named = "; ".join(wrong[:_MOST_NAMED])
        more = f"; and {len(wrong) - _MOST_NAMED} more" if len(wrong) > _MOST_NAMED else ""
        raise UserError(f"these are not the weights of {source}: {named}{more}; give that file")
    return {name: np.asarray(state[name], np.float32) for name in shapes}


def convert_layers(
    state: Mapping[str, np.ndarray], layers: Mapping[str, tuple[int, ...]], source: str
) -> dict[str, np.ndarray]:
    """Variables of `layers.Layers` from a state dict with NAME.weight and NAME.bias.

    Args:
      state: name -> array; convolutions [out, in, kh, kw], dense layers [out, in].
      layers: name -> shape of the weight, from `layers.list_layers`.
      source: see `take`.

    Raises:
      UserError: arrays are missing or have another shape; names them.
    """
    shapes = {f"{name}.weight": to_torch_shape(shape) for name, shape in layers.items()}
    shapes |= {f"{name}.bias": shape[-1:] for name, shape in layers.items()}
    return {name: from_torch(array) for name, array in take(state, shapes, source).items()}


def to_torch_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """[kh, kw, in, out] to [out, in, kh, kw]; [in, out] to [out, in]."""
    return (shape[-1], shape[-2], *shape[:-2])


def from_torch(weight: np.ndarray) -> np.ndarray:
    """[out, in, kh, kw] to [kh, kw, in, out]; [out, in] to [in, out]; [out] stays."""
    axes = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}[weight.ndim]
    return np.ascontiguousarray(weight.transpose(axes))


def fold_batch_norm(
    weight: np.ndarray,
    scale: np.ndarray,
    shift: np.ndarray,
    mean: np.ndarray,
    variance: np.ndarray,
    epsilon: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Folds a batch normalisation into the bias-free convolution before it.

    The result computes scale (w x - mean) / sqrt(variance + epsilon) + shift, folded in float64.

    Args:
      weight: [out, in, kh, kw]; the others [out].

    Returns:
      (float32 [out, in, kh, kw], float32 [out]).
    """
    factor = scale.astype(np.float64) / np.sqrt(variance.astype(np.float64) + epsilon)
    folded = weight.astype(np.float64) * factor[:, None, None, None]
    bias = shift.astype(np.float64) - mean.astype(np.float64) * factor
    return folded.astype(np.float32), bias.astype(np.float32)


def compute_fingerprint(variables: Mapping[str, np.ndarray], name: str) -> str:
    """SHA-256 (hexadecimal) of a network's name and of its arrays' names, shapes and values."""
    digest = hashlib.sha256(name.encode())
    for key in sorted(variables):
        digest.update(f"\n{key} {variables[key].shape}\n".encode())
        digest.update(np.ascontiguousarray(variables[key], "<f4").tobytes())
    return digest.hexdigest()
