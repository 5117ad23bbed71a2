"""Attentional AdaIN: the retrieved semantics and the style, weighted at every position of a map."""

import functools
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from retroguide_jax.choices import check_choice
from retroguide_jax.models.layers import Conv, Dtype, instance_norm
from retroguide_jax.models.polar import bearing_weights, to_polar


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
        key, value = dense(name="key"), dense(name="value")
        if self.form == "tokens":
            return self._look("bnd", query, key(tokens), value(tokens))
        rows, columns = self.token_grid
        tokens = tokens.reshape(-1, rows, columns, tokens.shape[-1])
        init = nn.initializers.normal(0.5)
        distance = self.param("distance", init, (rows, self.attention_width)).astype(self.dtype)
        if not self.circular:
            return self._see_columns(query, key(tokens), value(tokens), distance)
        tokens = to_polar(tokens, (rows, h.shape[2]))
        return self._look("bnwd", query, key(tokens) + distance[:, None], value(tokens))

    def _look(self, seen: str, query, key, value) -> jax.Array:
        """Attention from a map [B, H, W, D] to what it sees: all n ("bnd"), or n per column."""
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
