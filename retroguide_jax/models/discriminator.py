"""The discriminator: is the image real, and does it show the place that the embedding encodes?"""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from retroguide_jax.choices import check_choice
from retroguide_jax.models.folding import fold_images
from retroguide_jax.models.layers import Conv, Dtype, leaky_relu, rematerialise
from retroguide_jax.models.resampling import downsample, fit_to


class ResidualDown(nn.Module):
    """A 3 x 3 convolution and a 2 x 2 one with stride 2, plus a pooled 1 x 1 shortcut.

    With stride 2, a 2 x 2 kernel reads every pixel once: one matrix product, forward and backward.
    """

    features: int
    circular: bool
    init_scale: float = 1.0
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] to [B, H/2, W/2, features]."""
        conv = functools.partial(Conv, kernel_init=_scaled(self.init_scale), dtype=self.dtype)
        h = leaky_relu(conv(x.shape[-1], circular=self.circular)(x))
        h = leaky_relu(conv(self.features, 2, strides=2)(h))
        x = Conv(self.features, 1, use_bias=False, dtype=self.dtype)(downsample(x))
        return (h + x) * jnp.sqrt(0.5).astype(h.dtype)


def _scaled(scale: float) -> Callable:
    return nn.initializers.variance_scaling(scale, "fan_in", "truncated_normal")


class Discriminator(nn.Module):
    """Residual blocks that halve the map, then an unconditional and a conditional logit.

    Aerial and panorama pixels do not align, so the condition is the embedding, not the source
    image. `conditioning`:

    * `projection` (Miyato & Koyama, 2018): <FC(features), FC(e)> added to an unconditional logit;
    * `concat` (one-way, DF-GAN, Tao et al., 2022): e concatenated at every position, one logit.

    Baselines also have: `encoder`, projection onto the output of D's own module `encoder` for the
    source; `pixels` (pix2pix, Isola et al., 2017), the resized source concatenated with the image
    along the channels; and `none`.

    The blocks work on the image folded by `fold` (`folding.fold_images`): with 2, on maps of half
    the size with four times the channels, which costs far less at the same depth.

    `patch` adds a second head: one unconditional logit per position of the map before the last two
    blocks, so that texture is scored at more than one scale. `remat` as in `layers.rematerialise`.

    `init_scale` is the initial variance of a kernel times its number of inputs, for layers that a
    leaky ReLU follows: 2 / (1 + 0.2 ** 2) keeps the second moment (He et al., 2015), 1 halves it.
    Dense layers compute in float32 whatever `dtype` is: near 6, bfloat16 resolves a logit to 0.03.
    """

    features: tuple[int, ...] = (64, 128, 256, 512, 512)
    width: int = 512
    fold: int = 1
    conditioning: str = "projection"
    patch: bool = False
    init_scale: float = 1.0
    circular: bool = True
    polar: bool = False
    encoder: nn.Module | None = None
    remat: str = "none"
    dtype: Dtype = jnp.float32

    @property
    def has_late_condition(self) -> bool:
        """Whether the condition joins after `extract`: mismatched pairs then reuse the features."""
        return self.conditioning not in ("pixels", "none")

    def setup(self):
        """Declares the layers."""
        check_choice("discriminator.conditioning", self.conditioning)
        init = _scaled(self.init_scale)
        conv = functools.partial(Conv, circular=self.circular, kernel_init=init, dtype=self.dtype)
        dense = functools.partial(nn.Dense, dtype=jnp.promote_types(self.dtype, jnp.float32))
        self.from_rgb = conv(self.features[0], 3)
        block = rematerialise(ResidualDown, self.remat)
        self.blocks = [
            block(features, self.circular, self.init_scale, self.dtype)
            for features in (*self.features[1:], self.features[-1])
        ]
        self.reduce = conv(64, 1)
        self.describe = dense(self.width, kernel_init=init)
        self.embed = dense(self.width, kernel_init=init)
        self.unconditional = dense(1)
        if self.conditioning == "concat":
            self.joint = conv(self.width // 4, 3)
            self.joint_logit = dense(1)
        self.patch_logit = conv(1, 1) if self.patch else None

    def condition(self, embedding: jax.Array, source: jax.Array | None = None) -> jax.Array:
        """The condition of the score: the unit embeddings [B, E], or those of D's own encoder.

        Only that encoder needs `source` [B, Hs, Ws, 3] in [-1, 1].
        """
        if self.conditioning == "encoder":
            return self.encoder(source)[0]  # pyright: ignore[reportOptionalCall]
        return embedding

    def extract(
        self, images: jax.Array, source: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array | None]:
        """Images [B, H, W, 3] in [-1, 1] to the last map [B, h, w, C] and patch logits [B, P].

        The latter are None without `patch`. The same features can then be scored against several
        conditions. `source` is as in `condition`; only `pixels` needs it.
        """
        if self.conditioning == "pixels":
            images = jnp.concatenate([images, fit_to(source, images.shape[1:3], self.polar)], -1)  # pyright: ignore[reportArgumentType]
        x = leaky_relu(self.from_rgb(fold_images(images.astype(self.dtype), self.fold)))
        patches = None
        for index, block in enumerate(self.blocks):
            if self.patch and index == max(0, len(self.blocks) - 2):
                patches = self.patch_logit(x)  # pyright: ignore[reportOptionalCall]
                patches = patches.reshape(x.shape[0], -1).astype(jnp.float32)
            x = block(x)
        return x, patches

    def score(self, features: jax.Array, condition: jax.Array) -> jax.Array:
        """Logits [B] of features [B, h, w, C] given conditions [B, E] of length 1, float32."""
        if self.has_late_condition:
            e = leaky_relu(self.embed(condition * jnp.sqrt(condition.shape[-1])))
        if self.conditioning == "concat":
            maps = jnp.broadcast_to(e[:, None, None], (*features.shape[:3], e.shape[-1]))
            h = leaky_relu(self.joint(jnp.concatenate([features, maps], -1)))
            return self.joint_logit(h.reshape(h.shape[0], -1))[:, 0].astype(jnp.float32)
        # Flatten, do not pool: the embedding encodes spatial layout.
        h = leaky_relu(self.reduce(features)).reshape(features.shape[0], -1)
        h = leaky_relu(self.describe(h))
        logit = self.unconditional(h)[:, 0]
        if self.has_late_condition:
            logit += (h * e).sum(-1) / jnp.sqrt(self.width)
        return logit.astype(jnp.float32)

    def __call__(
        self, images: jax.Array, embedding: jax.Array, source: jax.Array | None = None
    ) -> tuple[jax.Array, ...]:
        """Logits of each head: [B] of the conditional one and, with `patch`, [B, P]."""
        features, patches = self.extract(images, source)
        logits = self.score(features, self.condition(embedding, source))
        return (logits,) if patches is None else (logits, patches)
