"""Layers shared by the networks: convolution on panoramas, resampling, normalisation, modulation.

All maps are NHWC. Parameters are float32; `dtype` is the type of the computation, and statistics
(means, variances, softmax) are always taken in float32.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.layout import Layout, with_layout_constraint

from retroguide_jax.choices import check_choice
from retroguide_jax.models.convolution import convolve
from retroguide_jax.models.polar import bearing_weights, polar_weights, to_polar

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


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _double(x: jax.Array, axis: int, circular: bool) -> jax.Array:
    """Doubles one axis with the weights 3/4, 1/4 of a half-pixel-centred linear interpolation."""
    return jax.lax.platform_dependent(
        x,
        tpu=functools.partial(_double_by_product, axis=axis, circular=circular),
        default=functools.partial(_double_by_shifts, axis=axis, circular=circular),
    )


def _double_backward(axis: int, circular: bool, _, grad: jax.Array) -> tuple[jax.Array]:
    """The transpose, in one pass over the gradient; the derived one takes CPUs many passes."""
    fns = {"tpu": _halve_by_product, "default": _halve_by_shifts}
    fns = {name: functools.partial(fn, axis=axis, circular=circular) for name, fn in fns.items()}
    return (jax.lax.platform_dependent(grad, **fns),)


def _double_by_shifts(x: jax.Array, axis: int, circular: bool) -> jax.Array:
    first, last = _ends(x, axis)
    before = _move_up(x, last if circular else first, axis)
    after = _move_down(x, first if circular else last, axis)
    pair = jnp.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], axis=axis + 1)
    return pair.reshape(*x.shape[:axis], 2 * x.shape[axis], *x.shape[axis + 1 :])


def _halve_by_shifts(grad: jax.Array, axis: int, circular: bool) -> jax.Array:
    pair = grad.reshape(*grad.shape[:axis], -1, 2, *grad.shape[axis + 1 :])
    even, odd = (jax.lax.index_in_dim(pair, k, axis + 1, keepdims=False) for k in (0, 1))
    # The first of a pair has weight 1/4 on the pixel before, the second on the pixel after.
    first, last = _ends(even, axis)[0], _ends(odd, axis)[1]
    after = _move_down(even, first if circular else last, axis)
    before = _move_up(odd, last if circular else first, axis)
    return 0.75 * (even + odd) + 0.25 * (after + before)


def _double_by_product(x: jax.Array, axis: int, circular: bool) -> jax.Array:
    """One product with a matrix of weights: TPUs move shifted and interleaved maps many times."""
    return _multiply(_interpolation(x.shape[axis], circular), x, axis)


def _halve_by_product(grad: jax.Array, axis: int, circular: bool) -> jax.Array:
    return _multiply(_interpolation(grad.shape[axis] // 2, circular).T, grad, axis)


def _multiply(matrix: np.ndarray, x: jax.Array, axis: int) -> jax.Array:
    exact = jax.lax.Precision.HIGHEST  # the weights are exact in any type, x keeps its own
    product = jnp.tensordot(matrix.astype(x.dtype), x, (1, axis), precision=exact)
    return jnp.moveaxis(product, 0, axis)


def _interpolation(length: int, circular: bool) -> np.ndarray:
    """The weights of `_double`: [2 length, length]."""
    rows = np.arange(2 * length)
    nearest = rows // 2
    other = nearest + 2 * (rows % 2) - 1
    other = other % length if circular else other.clip(0, length - 1)
    matrix = np.zeros((2 * length, length), np.float32)
    np.add.at(matrix, (rows, nearest), 0.75)
    np.add.at(matrix, (rows, other), 0.25)
    return matrix


def _double_forward(x: jax.Array, axis: int, circular: bool) -> tuple[jax.Array, None]:
    """Only where gradients are taken: `jax.export` does not write layouts to files."""
    x = _double(x, axis, circular)
    if axis == 2 and x.shape[-1] >= 128:
        x = jax.lax.platform_dependent(x, tpu=_lay_out, default=lambda x: x)
    return x, None


def _lay_out(x: jax.Array) -> jax.Array:
    """Images beside channels in memory: the order of TPUs' convolutions, not of their products."""
    return with_layout_constraint(x, Layout(major_to_minor=(1, 2, 0, 3)))


_double.defvjp(_double_forward, _double_backward)


def _ends(x: jax.Array, axis: int) -> tuple[jax.Array, jax.Array]:
    length = x.shape[axis]
    cut = functools.partial(jax.lax.slice_in_dim, x, axis=axis)
    return cut(0, 1), cut(length - 1, length)


def _move_up(x: jax.Array, edge: jax.Array, axis: int) -> jax.Array:
    """Each position takes the value of the one before it, the first takes `edge`."""
    return jnp.concatenate([edge, jax.lax.slice_in_dim(x, 0, x.shape[axis] - 1, axis=axis)], axis)


def _move_down(x: jax.Array, edge: jax.Array, axis: int) -> jax.Array:
    """Each position takes the value of the one after it, the last takes `edge`."""
    return jnp.concatenate([jax.lax.slice_in_dim(x, 1, x.shape[axis], axis=axis), edge], axis)


def upsample(x: jax.Array, circular: bool = False) -> jax.Array:
    """Bilinear x2 of [B, H, W, C]; columns wrap round when `circular`, otherwise the edge repeats.

    Interpolation before a convolution, in place of a strided transposed convolution, avoids
    checkerboard artefacts.
    """
    return _double(_hold(_double(_hold(x), 1, False)), 2, circular)


def _hold(x: jax.Array) -> jax.Array:
    """Keeps XLA on CPUs from inlining a gradient's many shifted terms into one another."""
    return jax.lax.platform_dependent(x, cpu=jax.lax.optimization_barrier, default=lambda x: x)


def scale_pixels(images: jax.Array) -> jax.Array:
    """uint8 in [0, 255] to float32 in [-1, 1]; floats are returned as they are."""
    if images.dtype != jnp.uint8:
        return images
    return images.astype(jnp.float32) * (1 / 127.5) - 1


def downsample(x: jax.Array) -> jax.Array:
    """Mean over 2 x 2 blocks: [B, H, W, C] to [B, H/2, W/2, C]."""
    if x.shape[-1] > 3:
        return _mean_of_blocks(x)
    return jax.lax.platform_dependent(x, tpu=_mean_by_products, default=_mean_of_blocks)


def _mean_of_blocks(x: jax.Array) -> jax.Array:
    batch, height, width, channels = x.shape
    return x.reshape(batch, height // 2, 2, width // 2, 2, channels).mean((2, 4))


def _mean_by_products(x: jax.Array) -> jax.Array:
    """For images: TPUs pad blocks of three channels to many times their size."""
    return _multiply(_pair_means(x.shape[2]), _multiply(_pair_means(x.shape[1]), x, 1), 2)


def _pair_means(length: int) -> np.ndarray:
    """The weights of a mean over pairs: [length / 2, length]."""
    return np.repeat(0.5 * np.eye(length // 2, dtype=np.float32), 2, axis=1)


def fit_to(images: jax.Array, size: Sequence[int], polar: bool = False) -> jax.Array:
    """Resizes [B, H, W, C] to `size`, ignoring the aspect ratio: bilinear, antialiased.

    With `polar`, samples aerial images in polar coordinates instead.
    """
    if polar:
        return to_polar(images, size)
    return jax.image.resize(images, (images.shape[0], *size, images.shape[-1]), "linear")


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
    def __call__(self, h: jax.Array, keys: jax.Array) -> jax.Array:
        """h [B, H, W, C], keys [B] (typed PRNG keys), or [1] for all; returns h's shape."""
        scale = self.param("scale", nn.initializers.zeros, (h.shape[-1],)).astype(h.dtype)
        noise = self.draw(keys, h.shape[1:3]).astype(h.dtype)
        scaled = jax.lax.platform_dependent(noise, scale, tpu=jnp.multiply, default=_spread)
        return h + scaled

    def draw(self, keys: jax.Array, size: Sequence[int]) -> jax.Array:
        """One map per key: standard normal [len(keys), *size, 1]."""

        def draw_one(key):
            for number in self.place:
                key = jax.random.fold_in(key, number)
            return jax.random.normal(key, (*size, 1))

        return jax.vmap(draw_one)(keys)


def _spread(noise: jax.Array, scale: jax.Array) -> jax.Array:
    """Their product as a 1 x 1 convolution, whose gradient is faster on CPUs."""
    return convolve(noise, scale.reshape(1, 1, 1, -1), jnp.zeros_like(scale))


class JoinedDense(nn.Module):
    """`nn.Dense` of [map ; vector] at every position; the vector's part is computed only once."""

    features: int
    kernel_init: Callable
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, h: jax.Array, vector: jax.Array) -> jax.Array:
        """h [B, H, W, D] and vector [B, V] to [B, H, W, features]."""
        depth = h.shape[-1]
        shape = (depth + vector.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape).astype(self.dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.features,)).astype(self.dtype)
        common = vector.astype(self.dtype) @ kernel[depth:] + bias
        return h.astype(self.dtype) @ kernel[:depth] + common[:, None, None]


class Affine(nn.Module):
    """Two linear maps of a condition to per-channel (1 + gamma, beta), initially near (1, 0)."""

    features: int
    init_scale: float = 0.1
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, *condition: jax.Array) -> tuple[jax.Array, jax.Array]:
        """[..., D] to two arrays [..., features]; or [B, H, W, D] and [B, V], as `JoinedDense`."""
        init = nn.initializers.variance_scaling(self.init_scale, "fan_in", "truncated_normal")
        dense = nn.Dense if len(condition) == 1 else JoinedDense
        dense = dense(2 * self.features, kernel_init=init, dtype=self.dtype, name="Dense_0")
        gamma, beta = jnp.split(dense(*condition), 2, axis=-1)
        return 1.0 + gamma, beta


class AttentionalAdaIN(nn.Module):
    """Adaptive instance normalisation that weights retrieved semantics and style per position.

    The paper states "Attentional AdaIN"; the formula is this project's choice. With h^ = IN(h):

    * `mask`: A = sigmoid(conv1x1(h^)), out = A (g_e h^ + b_e) + (1 - A) (g_w h^ + b_w), where
      (g_e, b_e) come from the embedding and (g_w, b_w) from the style;
    * `channel`: the same with A per channel, from [e ; w];
    * `tokens`: c_p = softmax(Q(h^_p) K(T)^T / sqrt(d)) V(T), (g, b) per position from [c_p ; w];
      with `position`, Q also reads the coordinates of p, which normalisation removes from h^;
    * `rays`: as `tokens`, but p attends only to what lies in its own direction. Where h is a
      panorama (`circular`), K and V are sampled from the square `token_grid` of the aerial source,
      at as many distances as it is high; where h is an aerial image, from the column of the
      panorama's `token_grid` in the direction of p. K also reads the distance, or the row;
    * `plain`: AdaIN (Huang & Belongie, 2017) with (g, b) from [e ; w]: the ablation.
    """

    form: str = "mask"
    position: bool = False
    circular: bool = False
    token_grid: tuple[int, int] = (1, 1)
    attention_width: int = 64
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, h: jax.Array, embedding: jax.Array, tokens: jax.Array, style: jax.Array
    ) -> jax.Array:
        """h [B, H, W, C], embedding [B, D], tokens [B, N, T], style [B, D]; returns h's shape."""
        channels = h.shape[-1]
        h = instance_norm(h)
        affine = functools.partial(Affine, channels, dtype=self.dtype)
        both = jnp.concatenate([embedding, style], -1)
        if self.form == "plain":
            return _modulate(h, *affine(name="plain")(both))
        if self.form in ("tokens", "rays"):
            gamma, beta = affine(name="context")(self._attend(h, tokens), style)
            return gamma * h + beta
        if self.form == "mask":
            gate = nn.sigmoid(Conv(1, 1, dtype=self.dtype, name="gate")(h))
        else:
            check_choice("generator.aain_form", self.form)
            gate = nn.sigmoid(nn.Dense(channels, dtype=self.dtype, name="gate")(both))[
                :, None, None
            ]
        self.sow("intermediates", "gates", gate)
        semantic = _modulate(h, *affine(name="semantic")(embedding))
        visual = _modulate(h, *affine(name="style")(style))
        return gate * semantic + (1.0 - gate) * visual

    def _attend(self, h: jax.Array, tokens: jax.Array) -> jax.Array:
        """Single-head attention from every position of h to tokens: [B, H, W, width]."""
        dense = functools.partial(nn.Dense, self.attention_width, dtype=self.dtype)
        query = dense(name="query")(h)
        if self.position:
            place = harmonics(h.shape[1:3], self.circular).astype(self.dtype)
            query += dense(name="position", use_bias=False)(place)
        key, value, seen = dense(name="key")(tokens), dense(name="value")(tokens), "bnd"
        if self.form == "rays":
            rows, columns = self.token_grid
            key, value = (x.reshape(-1, rows, columns, x.shape[-1]) for x in (key, value))
            init = nn.initializers.normal(0.5)
            distance = self.param("distance", init, (rows, self.attention_width))
            distance = distance.astype(self.dtype)
            if not self.circular:
                return self._see_columns(query, key, value, distance)
            weights = jnp.asarray(polar_weights(rows, (rows, h.shape[2])), self.dtype)
            key, value = (jnp.einsum("nwij,bijd->bnwd", weights, x) for x in (key, value))
            key, seen = key + distance[:, None], "bnwd"
        weights = self._weigh(jnp.einsum(f"bhwd,{seen}->bhwn", query, key))
        return jnp.einsum(f"bhwn,{seen}->bhwd", weights, value)

    def _see_columns(self, query, key, value, distance) -> jax.Array:
        """Attention from an aerial map [B, H, W, D] to a panorama's columns [B, n, columns, D]."""
        near = jnp.asarray(bearing_weights(key.shape[2], query.shape[1:3]), self.dtype)
        # Interpolates logits instead of keys, which is the same at a third of the cost.
        logits = jnp.einsum("bhwnj,hwj->bhwn", jnp.einsum("bhwd,bnjd->bhwnj", query, key), near)
        weights = self._weigh(logits + jnp.einsum("bhwd,nd->bhwn", query, distance))
        return jnp.einsum("bhwnj,bnjd->bhwd", weights[..., None] * near[:, :, None], value)

    def _weigh(self, logits: jax.Array) -> jax.Array:
        logits = logits.astype(jnp.float32) / jnp.sqrt(self.attention_width)
        return jax.nn.softmax(logits).astype(self.dtype)


def harmonics(size: Sequence[int], circular: bool, num: int = 4) -> jax.Array:
    """Position encoding of a map: [H, W, 4 num], sines and cosines of row and column.

    From edge to edge, the phase of wave k = 1 .. num advances by k half circles along rows and
    columns, and by k full circles along columns that wrap round.
    """
    numbers = jnp.pi * jnp.arange(1, num + 1)
    rows, columns = (
        factor * numbers * (jnp.arange(length)[:, None] + 0.5) / length
        for length, factor in zip(size, (1.0, 2.0 if circular else 1.0), strict=True)
    )
    waves = [jnp.concatenate([jnp.sin(x), jnp.cos(x)], -1) for x in (rows, columns)]
    waves = [waves[0][:, None], waves[1][None]]
    return jnp.concatenate([jnp.broadcast_to(x, (*size, 2 * num)) for x in waves], -1)


def _modulate(h: jax.Array, gamma: jax.Array, beta: jax.Array) -> jax.Array:
    return gamma[:, None, None] * h + beta[:, None, None]


class RegionMask(nn.Module):
    """Unsupervised soft regions of a feature map.

    m = sigmoid(conv1x1(relu(norm(conv3x3(h))))) for one region (after SSA-GAN, Liao et al., 2022),
    a softmax over regions for several; with `num_regions` 0 there is no mask: it is all ones.
    """

    num_regions: int = 1
    width: int = 100
    circular: bool = False
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, h: jax.Array) -> jax.Array:
        """[B, H, W, C] to [B, H, W, max(1, num_regions)], in [0, 1]."""
        if self.num_regions == 0:
            return jnp.ones((*h.shape[:3], 1), h.dtype)
        x = Conv(self.width, circular=self.circular, dtype=self.dtype)(h)
        x = nn.relu(instance_norm(x))
        logits = Conv(self.num_regions, 1, dtype=self.dtype)(x).astype(jnp.float32)
        mask = nn.sigmoid(logits) if self.num_regions == 1 else jax.nn.softmax(logits)
        self.sow("intermediates", "masks", mask)
        return mask.astype(h.dtype)


class RegionModulation(nn.Module):
    """Region-aware modulation: out = IN(h) + sum_k m_k (gamma_k IN(h) + beta_k).

    (gamma_k, beta_k) = MLP([e ; w]); its last layer starts at zero, so the layer starts as plain
    instance normalisation. The paper states the name; the formula is this project's choice.
    """

    hidden: int = 256
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, h: jax.Array, mask: jax.Array, condition: jax.Array) -> jax.Array:
        """h [B, H, W, C], mask [B, H, W, K] in [0, 1], condition [B, D]; returns h's shape."""
        channels, regions = h.shape[-1], mask.shape[-1]
        x = leaky_relu(nn.Dense(self.hidden, dtype=self.dtype)(condition))
        x = nn.Dense(2 * regions * channels, kernel_init=nn.initializers.zeros, dtype=self.dtype)(x)
        gamma, beta = jnp.split(x.reshape(-1, regions, 1, 1, 2 * channels), 2, axis=-1)
        h = instance_norm(h)
        # An explicit sum: there are few regions, and an einsum would be a batch of tiny products.
        # Affine maps of h, not sums of gammas and of betas: each mask's gradient is then one sum.
        maps = (mask[..., k : k + 1] * (gamma[:, k] * h + beta[:, k]) for k in range(regions))
        return sum(maps, h)
