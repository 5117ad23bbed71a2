"""Space to depth and back: the pixels of a patch as channels of one position."""

import functools

import jax
import numpy as np


def fold(x: jax.Array, size: int) -> jax.Array:
    """[B, H, W, C] to [B, H / size, W / size, size * size * C]: patches, row by row."""
    if size == 1:
        return x
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // size, size, width // size, size, channels).swapaxes(2, 3)
    return x.reshape(batch, height // size, width // size, size * size * channels)


def unfold(x: jax.Array, size: int) -> jax.Array:
    """Inverse of `fold`: [B, H, W, size * size * C] to [B, size * H, size * W, C]."""
    if size == 1:
        return x
    batch, height, width, _ = x.shape
    x = x.reshape(batch, height, width, size, size, -1).swapaxes(2, 3)
    return x.reshape(batch, height * size, width * size, -1)


def fold_images(images: jax.Array, size: int) -> jax.Array:
    """`fold` of images of few channels, which TPUs pad to many: they convolve, not transpose."""
    if size == 1:
        return images
    fns = {"tpu": _fold_by_convolution, "default": fold}
    fns = {name: functools.partial(fn, size=size) for name, fn in fns.items()}
    return jax.lax.platform_dependent(images, **fns)


def unfold_images(x: jax.Array, size: int) -> jax.Array:
    """Inverse of `fold_images`."""
    if size == 1:
        return x
    fns = {"tpu": _unfold_by_convolution, "default": unfold}
    fns = {name: functools.partial(fn, size=size) for name, fn in fns.items()}
    return jax.lax.platform_dependent(x, **fns)


def _fold_by_convolution(images: jax.Array, size: int) -> jax.Array:
    """Kernels that are 1 at one value of a patch."""
    channels = images.shape[-1]
    num = size * size * channels
    kernel = np.eye(num).reshape(size, size, channels, num).astype(images.dtype)
    return jax.lax.conv_general_dilated(
        images,
        kernel,  # pyright: ignore[reportArgumentType]
        (size, size),
        "VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=jax.lax.Precision.HIGHEST,
    )


def _unfold_by_convolution(x: jax.Array, size: int) -> jax.Array:
    """The inverse of a permutation is its transpose."""
    batch, height, width, num = x.shape
    shape = (batch, height * size, width * size, num // size**2)
    like = jax.ShapeDtypeStruct(shape, x.dtype)
    (images,) = jax.linear_transpose(functools.partial(_fold_by_convolution, size=size), like)(x)
    return images
