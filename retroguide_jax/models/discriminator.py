"""The discriminator: is this image real, and does it show the place the embedding speaks of?"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from retroguide_jax.models.layers import Conv, Dtype, downsample, leaky_relu, rematerialise


class ResidualDown(nn.Module):
    """A 3 x 3 convolution and a 2 x 2 one with stride 2, beside a pooled 1 x 1 shortcut.

    2 x 2 with stride 2 visits every pixel once: it is one matrix product, forward and backward.
    """

    features: int
    circular: bool
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] to [B, H/2, W/2, features]."""
        h = leaky_relu(Conv(x.shape[-1], circular=self.circular, dtype=self.dtype)(x))
        h = leaky_relu(Conv(self.features, 2, strides=2, dtype=self.dtype)(h))
        x = Conv(self.features, 1, use_bias=False, dtype=self.dtype)(downsample(x))
        return (h + x) * jnp.sqrt(0.5).astype(h.dtype)


class Discriminator(nn.Module):
    """Residual blocks that halve the map, then an unconditional and a conditional judgement.

    It never sees the source image: aerial and panorama pixels do not align, so the condition is the
    embedding. `conditioning`:

    * `projection` (Miyato & Koyama, 2018): <FC(features), FC(e)> added to an unconditional logit;
    * `concat` (one-way, DF-GAN, Tao et al., 2022): e beside every position, one logit.

    `patch` adds one unconditional logit per position of the map before the last two blocks, so that
    texture is judged at more than one scale. `remat` as in `layers.rematerialise`.
    """

    features: tuple[int, ...] = (64, 128, 256, 512, 512)
    width: int = 512
    conditioning: str = "projection"
    patch: bool = False
    circular: bool = True
    remat: str = "none"
    dtype: Dtype = jnp.float32

    def setup(self):
        """Declares the layers."""
        conv = functools.partial(Conv, circular=self.circular, dtype=self.dtype)
        self.from_rgb = conv(self.features[0], 3)
        block = rematerialise(ResidualDown, self.remat)
        self.blocks = [
            block(features, self.circular, self.dtype)
            for features in (*self.features[1:], self.features[-1])
        ]
        self.reduce = conv(64, 1)
        self.describe = nn.Dense(self.width, dtype=self.dtype)
        self.embed = nn.Dense(self.width, dtype=self.dtype)
        self.unconditional = nn.Dense(1, dtype=self.dtype)
        if self.conditioning == "concat":
            self.joint = conv(self.width // 4, 3)
            self.joint_logit = nn.Dense(1, dtype=self.dtype)
        elif self.conditioning != "projection":
            raise ValueError(f"unknown conditioning: {self.conditioning!r}")
        self.patch_logit = conv(1, 1) if self.patch else None

    def extract(self, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Images [B, H, W, 3] in [-1, 1] to the last map [B, h, w, C] and patch logits [B, P].

        P is 0 without `patch`. The same features can then be judged against several embeddings.
        """
        x = leaky_relu(self.from_rgb(images.astype(self.dtype)))
        patches = jnp.zeros((images.shape[0], 0), jnp.float32)
        for index, block in enumerate(self.blocks):
            if self.patch and index == max(0, len(self.blocks) - 2):
                patches = self.patch_logit(x).reshape(x.shape[0], -1).astype(jnp.float32)
            x = block(x)
        return x, patches

    def judge(self, features: jax.Array, embedding: jax.Array) -> jax.Array:
        """Logits [B] of features [B, h, w, C] given unit embeddings [B, E], float32."""
        e = leaky_relu(self.embed(embedding * jnp.sqrt(embedding.shape[-1])))
        if self.conditioning == "concat":
            maps = jnp.broadcast_to(e[:, None, None], (*features.shape[:3], e.shape[-1]))
            h = leaky_relu(self.joint(jnp.concatenate([features, maps], -1)))
            return self.joint_logit(h.reshape(h.shape[0], -1))[:, 0].astype(jnp.float32)
        # Flattened, not pooled: where things stand is what the embedding has an opinion on.
        h = leaky_relu(self.reduce(features)).reshape(features.shape[0], -1)
        h = leaky_relu(self.describe(h))
        logit = self.unconditional(h)[:, 0] + (h * e).sum(-1) / jnp.sqrt(self.width)
        return logit.astype(jnp.float32)

    def __call__(self, images: jax.Array, embedding: jax.Array) -> jax.Array:
        """Logits [B, 1 + P]: the conditional judgement, then the patches'."""
        features, patches = self.extract(images)
        return jnp.concatenate([self.judge(features, embedding)[:, None], patches], -1)
