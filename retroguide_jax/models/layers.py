"""Layers shared by the networks: convolution on panoramas, normalisation, noise.

All maps are NHWC. Parameters are float32; `dtype` is the type of the computation, and statistics
(means, variances, softmax) are always taken in float32.
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from retroguide_jax.models.convolution import convolve

Dtype = Any


def rematerialise(block: type[nn.Module], remat: str, static_argnums=()) -> type[nn.Module]:
    """Wraps a block to store less of its forward pass and recompute it for the backward pass.

    `none` stores everything; `elementwise` stores the results of convolutions and matrix products
    and recomputes the operations between them (norms, modulations, activations), which is cheap;
    `blocks` stores only the block's inputs and repeats its forward pass. Results are the same.
    Parameters are named after the instance, so give blocks names.
    """
    if remat == "none":
        return block
    policy = _is_product if remat == "elementwise" else None
    return nn.remat(block, policy=policy, static_argnums=static_argnums)


def _is_product(primitive, *_, **__) -> bool:
    return primitive.name in ("conv_general_dilated", "dot_general")


class Conv(nn.Module):
    """Square convolution that keeps the size (divided by `strides`), optionally circular.

    A 360-degree panorama has no left or right edge: with `circular` the columns wrap round, so
    that rolling the input by a multiple of `strides` rolls the output. Rows are always padded with
    zeros.
    """

    features: int
    kernel_size: int = 3
    strides: int = 1
    circular: bool = False
    use_bias: bool = True
    kernel_init: Callable = nn.initializers.lecun_normal()
    bias_init: Callable = nn.initializers.zeros
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, H, W, C] to [B, ceil(H / strides), ceil(W / strides), features]."""
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape).astype(self.dtype)
        bias = jnp.zeros((self.features,), self.dtype)
        if self.use_bias:
            bias = self.param("bias", self.bias_init, (self.features,)).astype(self.dtype)
        x = x.astype(self.dtype)
        # A 2 x 2 kernel of stride 2 tiles the image and needs no border.
        pad = self.kernel_size // 2 if self.strides < self.kernel_size else 0
        if pad and self.circular:
            x = jnp.concatenate([x[:, :, -pad:], x, x[:, :, :pad]], axis=2)
            return convolve(x, kernel, bias, self.strides, (pad, 0))
        return convolve(x, kernel, bias, self.strides, (pad, pad))


def scale_pixels(images: jax.Array) -> jax.Array:
    """uint8 in [0, 255] to float32 in [-1, 1]; floats are returned as they are."""
    if images.dtype != jnp.uint8:
        return images
    return images.astype(jnp.float32) * (1 / 127.5) - 1


def instance_norm(h: jax.Array, epsilon: float = 1e-5) -> jax.Array:
    """(h - mu) / sqrt(var + epsilon) per sample and channel of [B, H, W, C], in float32."""
    h32 = h.astype(jnp.float32)
    mean = h32.mean((1, 2), keepdims=True)
    # E[h^2] - mu^2 needs no second pass over the map, and its gradient one pass less.
    variance = jnp.square(h32).mean((1, 2), keepdims=True) - jnp.square(mean)
    return ((h32 - mean) * jax.lax.rsqrt(jnp.maximum(variance, 0.0) + epsilon)).astype(h.dtype)


def leaky_relu(x: jax.Array) -> jax.Array:
    """Leaky rectifier with slope 0.2, as customary in generators and discriminators."""
    return nn.leaky_relu(x, 0.2)


class NoiseInjection(nn.Module):
    """Adds a map of Gaussian noise times a learned weight per channel that starts at zero.

    Source: StyleGAN (Karras et al., 2019). The noise is drawn per sample from that sample's own
    key, so an image does not depend on the batch it was made in. `place` holds numbers that are
    folded into the keys, so that the layers of one network draw different noise.
    """

    place: tuple[int, ...] = ()

    @nn.compact
    def __call__(self, h: jax.Array, keys: jax.Array | None) -> jax.Array:
        """h [B, H, W, C], keys [B] (typed PRNG keys), or None for no noise; returns h's shape."""
        scale = self.param("scale", nn.initializers.zeros, (h.shape[-1],)).astype(h.dtype)
        if keys is None:
            return h
        noise = self._draw(keys, h.shape[1:3]).astype(h.dtype)
        scaled = jax.lax.platform_dependent(noise, scale, tpu=jnp.multiply, default=_spread)
        return h + scaled

    def _draw(self, keys: jax.Array, size: Sequence[int]) -> jax.Array:
        """One map per key: standard normal [len(keys), *size, 1]."""

        def draw_one(key):
            for number in self.place:
                key = jax.random.fold_in(key, number)
            return jax.random.normal(key, (*size, 1))

        return jax.vmap(draw_one)(keys)


def _spread(noise: jax.Array, scale: jax.Array) -> jax.Array:
    """Their product as a 1 x 1 convolution, whose gradient is faster on CPUs."""
    return convolve(noise, scale.reshape(1, 1, 1, -1), jnp.zeros_like(scale))
