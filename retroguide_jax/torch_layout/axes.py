"""Converts arrays between PyTorch's order of axes and ours, exactly, in both directions."""

import jax
import numpy as np

# From PyTorch's order to ours, by the number of axes of a kernel: a matrix, or a convolution (a
# depthwise one has one input channel in both orders).
_TRANSFORMS = {2: ("transposed", (1, 0)), 4: ("OIHW to HWIO", (2, 3, 1, 0))}
_SAME = "as it is"


def from_torch(
    name: str, array: np.ndarray, shape: tuple[int, ...]
) -> tuple[np.ndarray, str] | None:
    """Converts a PyTorch array to one of ours.

    A learned position embedding [h, w, C] may also come as [1, h w, C], or on another grid: it is
    then resized bicubically, as the embedder itself does for images of another size.

    Args:
      name: our name, such as "embedder/towers_aerial/stem/Conv_0/kernel".
      array: array in PyTorch's order of axes.
      shape: shape of our array.

    Returns:
      The array and a description of the conversion; None if it cannot have this shape.
    """
    if name.endswith("/position"):
        return _fit_position(array, shape)
    words, axes = _get_transform(name, len(shape))
    if array.ndim != len(shape):
        return None
    moved = array.transpose(axes) if axes else array
    return (moved, words) if moved.shape == tuple(shape) else None


def to_torch(name: str, array: np.ndarray) -> np.ndarray:
    """Inverse of `from_torch`, for an array of ours of any shape."""
    _, axes = _get_transform(name, array.ndim)
    return array.transpose(np.argsort(axes)) if axes else array


def _get_transform(name: str, num_axes: int) -> tuple[str, tuple[int, ...] | None]:
    return _TRANSFORMS[num_axes] if name.endswith("/kernel") else (_SAME, None)


def _fit_position(array: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, str] | None:
    height, width, channels = shape
    if array.shape == shape:
        return array, _SAME
    if array.shape == (1, height * width, channels):
        return array.reshape(shape), "cut into rows"
    if array.ndim != 3 or min(array.shape[:2]) < 2 or array.shape[2] != channels:
        return None
    resized = np.asarray(jax.image.resize(array, shape, "bicubic"))
    return resized, f"resized bicubically from {array.shape[0]} x {array.shape[1]}"
