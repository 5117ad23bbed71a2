"""ConvNeXt, the backbone of Sample4Geo, as one of the embedder's."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from retroguide_jax.models.layers import Dtype, rematerialise


class ConvNeXtBlock(nn.Module):
    """x + layer_scale * Dense(GELU(Dense(LayerNorm(depthwise 7 x 7 (x))))) (Liu et al., 2022)."""

    circular: bool = False
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] to [B, H, W, C]."""
        width = x.shape[-1]
        columns, h = (3, 3), x
        if self.circular:
            h, columns = jnp.pad(x, ((0, 0), (0, 0), (3, 3), (0, 0)), mode="wrap"), (0, 0)
        h = nn.Conv(
            width,
            (7, 7),
            padding=((3, 3), columns),
            feature_group_count=width,
            dtype=self.dtype,
            name="depthwise",
        )(h)
        h = nn.LayerNorm(epsilon=1e-6, dtype=self.dtype, name="norm")(h)
        h = nn.gelu(nn.Dense(4 * width, dtype=self.dtype, name="expand")(h), approximate=False)
        h = nn.Dense(width, dtype=self.dtype, name="project")(h)
        scale = self.param("layer_scale", nn.initializers.constant(1e-6), (width,))
        return x + scale.astype(self.dtype) * h


class ConvNeXtTower(nn.Module):
    """Patch stem (4 x 4), four stages of blocks with 2 x 2 downsampling between, LayerNorm.

    The defaults are ConvNeXt-B. The token grid is the image's size divided by 32.
    """

    widths: tuple[int, ...] = (128, 256, 512, 1024)
    depths: tuple[int, ...] = (3, 3, 27, 3)
    circular: bool = False
    remat: str = "none"
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Images [B, H, W, 3] in [-1, 1] to tokens [B, H W / 32^2, widths[-1]]."""
        del train  # LayerNorm only: nothing differs between training and inference.
        x = images.astype(self.dtype)
        block = rematerialise(ConvNeXtBlock, self.remat)
        for stage, (width, depth) in enumerate(zip(self.widths, self.depths, strict=True)):
            if stage == 0:
                x = _patchify(width, 4, self.dtype, "stem")(x)
                x = nn.LayerNorm(epsilon=1e-6, dtype=self.dtype, name="stem_norm")(x)
            else:
                name = f"downsample_{stage}"
                x = nn.LayerNorm(epsilon=1e-6, dtype=self.dtype, name=f"{name}_norm")(x)
                x = _patchify(width, 2, self.dtype, name)(x)
            for index in range(depth):
                name = f"stage_{stage}_block_{index}"
                x = block(self.circular, self.dtype, name=name)(x)
        x = x.reshape(x.shape[0], -1, x.shape[-1])
        return nn.LayerNorm(epsilon=1e-6, dtype=self.dtype, name="norm")(x)


def _patchify(width: int, size: int, dtype: Dtype, name: str) -> nn.Conv:
    return nn.Conv(width, (size, size), (size, size), padding="VALID", dtype=dtype, name=name)
