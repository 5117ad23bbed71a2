"""ConvNeXt, the backbone of Sample4Geo, as a backbone of the embedder."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from retroguide_jax.models.depthwise import convolve_depthwise
from retroguide_jax.models.layers import Conv, Dtype, rematerialise


class Depthwise(nn.Module):
    """Depthwise convolution that keeps the size; columns wrap round if `circular`."""

    size: int = 7
    circular: bool = False
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] to [B, H, W, C]."""
        init, shape = nn.initializers.lecun_normal(), (self.size, self.size, 1, x.shape[-1])
        kernel = self.param("kernel", init, shape).astype(self.dtype)
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],)).astype(self.dtype)
        around = (self.size // 2, self.size // 2)
        x = jnp.pad(x, ((0, 0), around, (0, 0), (0, 0)))
        x = jnp.pad(
            x, ((0, 0), (0, 0), around, (0, 0)), mode="wrap" if self.circular else "constant"
        )
        return convolve_depthwise(x, kernel[:, :, 0]) + bias


class ConvNeXtBlock(nn.Module):
    """x + layer_scale * Dense(GELU(Dense(LayerNorm(depthwise 7 x 7 (x))))) (Liu et al., 2022)."""

    circular: bool = False
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] to [B, H, W, C]."""
        width = x.shape[-1]
        h = Depthwise(circular=self.circular, dtype=self.dtype, name="depthwise")(x)
        h = nn.LayerNorm(epsilon=1e-6, dtype=self.dtype, name="norm")(h)
        h = nn.gelu(nn.Dense(4 * width, dtype=self.dtype, name="expand")(h), approximate=False)
        h = nn.Dense(width, dtype=self.dtype, name="project")(h)
        scale = self.param("layer_scale", nn.initializers.constant(1e-6), (width,))
        return x + scale.astype(self.dtype) * h


class ConvNeXtTower(nn.Module):
    """Patch stem (4 x 4), stages of blocks with 2 x 2 downsampling in between, LayerNorm.

    The defaults are those of ConvNeXt-B. The token grid is the image size divided by `find_stride`.
    """

    widths: tuple[int, ...] = (128, 256, 512, 1024)
    depths: tuple[int, ...] = (3, 3, 27, 3)
    circular: bool = False
    remat: str = "none"
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> tuple[jax.Array, list[jax.Array]]:
        """Images [B, H, W, 3] in [-1, 1] to tokens [B, H W / stride^2, widths[-1]].

        Also returns what each halving reads, from the last to the first:
        [B, 2 H / stride, 2 W / stride, widths[-2]] and so on, up to [B, H / 4, W / 4, widths[0]].
        """
        del train  # LayerNorm only: nothing differs between training and inference.
        finer: list[jax.Array] = []
        x = images.astype(self.dtype)
        block = rematerialise(ConvNeXtBlock, self.remat)
        for stage, (width, depth) in enumerate(zip(self.widths, self.depths, strict=True)):
            if stage == 0:
                x = Conv(width, 4, strides=4, dtype=self.dtype, name="stem")(x)
                x = nn.LayerNorm(epsilon=1e-6, dtype=self.dtype, name="stem_norm")(x)
            else:
                name = f"downsample_{stage}"
                x = nn.LayerNorm(epsilon=1e-6, dtype=self.dtype, name=f"{name}_norm")(x)
                finer.insert(0, x)
                x = Conv(width, 2, strides=2, dtype=self.dtype, name=name)(x)
            for index in range(depth):
                name = f"stage_{stage}_block_{index}"
                x = block(self.circular, self.dtype, name=name)(x)
        x = x.reshape(x.shape[0], -1, x.shape[-1])
        return nn.LayerNorm(epsilon=1e-6, dtype=self.dtype, name="norm")(x), finer


def find_stride(widths: tuple[int, ...]) -> int:
    """Side of a token in pixels: 32 for four stages."""
    return 2 ** (len(widths) + 1)
