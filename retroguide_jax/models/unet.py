"""pix2pix's U-Net on the source image resized to the target's size: the baseline without guidance.

Source: Isola et al. (2017). It has the methods of `generator.Generator`, so that it can replace it
in training. It reads neither the embedding nor a style code: its noise is drawn inside.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from retroguide_jax.models.layers import Conv, Dtype, NoiseInjection, instance_norm, leaky_relu
from retroguide_jax.models.resampling import fit_to, upsample


class UNet(nn.Module):
    """Halving convolutions, then doubling ones, each with a skip connection at its size.

    `size`: height and width of the target; `features`: channels of the halving convolutions.
    `polar`: an aerial source is not resized, but read in polar coordinates.
    """

    size: tuple[int, int]
    features: tuple[int, ...] = (64, 128, 256, 512, 512)
    z_dim: int = 512
    style_dim: int = 16
    circular: bool = True
    polar: bool = False
    dtype: Dtype = jnp.float32

    def map_noise(self, z: jax.Array) -> jax.Array:
        """z [B, z_dim] to [B, style_dim]: truncated, as nothing reads it."""
        return z[:, : self.style_dim]

    @nn.compact
    def synthesize(self, embedding, tokens, style_code, keys, source):
        """Returns images [B, H, W, 3] in [-1, 1], float32, and None; see `Generator.synthesize`.

        Only `source` [B, Hs, Ws, 3] in [-1, 1] and `keys` are read.
        """
        del embedding, tokens, style_code

        def conv(features, strides=1):
            return Conv(features, strides=strides, circular=self.circular, dtype=self.dtype)

        h, skips = fit_to(source, self.size, self.polar), []
        for number, features in enumerate(self.features):
            skips.append(h)
            h = conv(features, strides=2)(h)
            h = leaky_relu(instance_norm(h) if number else h)
        # Noise maps replace pix2pix's dropout, which cannot take one key per image.
        for number in reversed(range(len(self.features))):
            h = jnp.concatenate([upsample(h, self.circular), skips[number]], -1)
            h = instance_norm(conv(self.features[max(0, number - 1)])(h))
            h = leaky_relu(NoiseInjection((number,))(h, keys))
        return jnp.tanh(conv(3)(h).astype(jnp.float32)), None

    def __call__(self, embedding, tokens, z, images, keys, source):
        """Uses every parameter once, for initialisation."""
        del images
        return self.synthesize(embedding, tokens, self.map_noise(z), keys, source)
