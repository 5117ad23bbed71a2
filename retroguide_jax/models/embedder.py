"""The retrieval embedder: two towers that map an aerial image and its panorama to one unit sphere.

SAIG (Zhu, Yang et al., arXiv 2302.01572): a convolutional stem, attention-only blocks without an
MLP, and a readout. SAIG-S is depth 11, SAIG-D depth 22, both 384 wide with 12 heads.
"""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from retroguide_jax.choices import check_choice
from retroguide_jax.models.convnext import ConvNeXtTower
from retroguide_jax.models.layers import Conv, Dtype, rematerialise

VIEWS = ("aerial", "ground")
_LARGEST_SCALE = 100.0  # of a learned inverse temperature, as in CLIP (Radford et al., 2021)


class Stem(nn.Module):
    """Seven convolutions, all but the last 3 x 3 with normalisation and ReLU; the last is 1 x 1.

    `norm`: `batch` as published (statistics over the global batch; running ones for inference) or
    `group`, which keeps no state and is more stable on tiny batches.
    """

    features: tuple[int, ...]
    strides: tuple[int, ...]
    width: int
    norm: str = "batch"
    circular: bool = False
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> tuple[jax.Array, list[jax.Array]]:
        """[B, H, W, 3] to [B, H / s, W / s, width], s the product of `strides`.

        Also returns what each halving reads, from the last to the first: [B, 2 H / s, 2 W / s, F],
        [B, 4 H / s, 4 W / s, F'] and so on, up to the images.
        """
        finer: list[jax.Array] = []
        for features, stride in zip(self.features, self.strides, strict=True):
            if stride > 1:
                finer.insert(0, x)
            x = Conv(features, strides=stride, circular=self.circular, dtype=self.dtype)(x)
            if self.norm == "batch":
                x = nn.BatchNorm(not train, momentum=0.9, epsilon=1e-5, dtype=self.dtype)(x)
            else:
                check_choice("embedder.saig.stem_norm", self.norm)
                x = nn.GroupNorm(num_groups=None, group_size=8, dtype=self.dtype)(x)
            x = nn.relu(x)
        return Conv(self.width, 1, dtype=self.dtype)(x), finer


class SelfAttentionBlock(nn.Module):
    """x + Proj(MHSA(LayerNorm(x))), no MLP; Proj starts at zero, so a new block is the identity."""

    num_heads: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, N, C] to [B, N, C]."""
        batch, tokens, width = x.shape
        h = nn.LayerNorm(epsilon=1e-6, dtype=self.dtype)(x)
        qkv = nn.Dense(3 * width, dtype=self.dtype, name="qkv")(h)
        heads = (batch, tokens, self.num_heads, width // self.num_heads)
        query, key, value = (part.reshape(heads) for part in jnp.split(qkv, 3, axis=-1))
        h = jax.nn.dot_product_attention(query, key, value).reshape(batch, tokens, width)
        zeros = nn.initializers.zeros
        return x + nn.Dense(width, kernel_init=zeros, dtype=self.dtype, name="proj")(h)


class SaigTower(nn.Module):
    """One tower of SAIG: stem, learned position embedding, attention-only blocks, LayerNorm.

    `grid` is the token grid that the position embedding is learned on; for another input size it is
    resized bicubically.
    """

    grid: tuple[int, int]
    width: int = 384
    depth: int = 11
    num_heads: int = 12
    stem_features: tuple[int, ...] = (64, 128, 128, 256, 256, 512)
    stem_strides: tuple[int, ...] = (2, 2, 1, 2, 1, 2)
    stem_norm: str = "batch"
    circular: bool = False
    remat: str = "none"
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> tuple[jax.Array, list[jax.Array]]:
        """Images [B, H, W, 3] in [-1, 1] to tokens [B, N, width], N = H W / stride^2.

        Also returns the stem's finer features, as `Stem` does.
        """
        x, finer = rematerialise(Stem, self.remat, static_argnums=(2,))(
            self.stem_features,
            self.stem_strides,
            self.width,
            self.stem_norm,
            self.circular,
            self.dtype,
            name="stem",
        )(images.astype(self.dtype), train)
        batch, height, width, channels = x.shape
        position = self.param("position", nn.initializers.normal(0.02), (*self.grid, channels))
        if (height, width) != tuple(self.grid):
            position = jax.image.resize(position, (height, width, channels), "bicubic")
        x = (x + position.astype(self.dtype)).reshape(batch, height * width, channels)
        block = rematerialise(SelfAttentionBlock, self.remat)
        for index in range(self.depth):
            x = block(self.num_heads, self.dtype, name=f"block_{index}")(x)
        return nn.LayerNorm(epsilon=1e-6, dtype=self.dtype, name="norm")(x), finer


class SmdHead(nn.Module):
    """SAIG's spatial-mixed descriptor: an MLP over the token axis, then N tokens mixed to a few.

    Unlike a mean over tokens, this readout keeps positions.
    """

    num_outputs: int = 8
    expansion: int = 4
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Tokens [B, N, C] to [B, num_outputs * C]."""
        num_tokens = tokens.shape[1]
        x = tokens.swapaxes(1, 2)
        x = nn.Dense(self.expansion * num_tokens, dtype=self.dtype)(x)
        x = nn.Dense(num_tokens, dtype=self.dtype)(nn.gelu(x, approximate=False))
        x = nn.Dense(self.num_outputs, dtype=self.dtype)(x)
        return x.swapaxes(1, 2).reshape(x.shape[0], -1)


class Embedder(nn.Module):
    """Both towers and their readouts.

    `head`: `smd` (default) or `gap`, the mean over tokens. `shared`: one tower for both views.
    `backbone`: `saig` or `convnext`. `tower` holds the backbone's own arguments; `grids` the token
    grid per view; `panorama` makes the ground tower circular along the width.
    """

    grids: dict[str, tuple[int, int]]
    tower: dict[str, Any]
    backbone: str = "saig"
    head: str = "smd"
    head_outputs: int = 8
    shared: bool = False
    panorama: bool = True
    learned_temperature: bool = False
    temperature: float = 0.02
    fine_tokens: int = 0
    remat: str = "none"
    dtype: Dtype = jnp.float32

    def setup(self):
        """Declares the towers and heads."""
        check_choice("embedder.backbone", self.backbone)
        check_choice("embedder.head", self.head)
        towers, heads = {}, {}
        for view in VIEWS[:1] if self.shared else VIEWS:
            circular = self.panorama and view == "ground" and not self.shared
            common = {"circular": circular, "remat": self.remat, "dtype": self.dtype}
            if self.backbone == "saig":
                towers[view] = SaigTower(grid=self.grids[view], **common, **self.tower)
            else:
                towers[view] = ConvNeXtTower(**common, **self.tower)
        # The readout mixes a fixed number of tokens, so it stays per view if towers are shared.
        for view in VIEWS:
            if self.head == "smd":
                heads[view] = SmdHead(self.head_outputs, dtype=self.dtype)
        self.towers, self.heads = towers, heads
        # The inverse temperature is learned in log space so that it stays positive (CLIP).
        init = nn.initializers.constant(-math.log(self.temperature))
        self.log_scale = self.param("log_scale", init, ()) if self.learned_temperature else None

    def __call__(self, images: jax.Array, view: str, train: bool = False):
        """Embeds one view.

        Args:
          images: [B, H, W, 3] in [-1, 1].
          view: "aerial" or "ground".
          train: whether normalisation uses the batch's statistics (and updates the running ones).

        Returns:
          The embedding [B, D], unit length, float32; and the tokens [B, N, C].
        """
        return self._embed(images, view, train)[:2]

    def guide(self, images: jax.Array, view: str):
        """What guides G: the embedding, and tokens.

        With `fine_tokens` k these are [B, 4^k N, C + F]: each token, repeated, beside the tower's
        features before its last k halvings, which distinguish what lies within one token.
        """
        embedding, tokens, finer = self._embed(images, view, False)
        if not self.fine_tokens:
            return embedding, tokens
        finer = finer[: self.fine_tokens]
        batch, height, width, _ = finer[-1].shape
        times = 2**self.fine_tokens
        grid = tokens.reshape(batch, height // times, width // times, -1)
        repeats = [times // 2**level for level in range(self.fine_tokens + 1)]
        maps = [x.repeat(n, 1).repeat(n, 2) for x, n in zip([grid, *finer], repeats, strict=True)]
        return embedding, jnp.concatenate(maps, -1).reshape(batch, height * width, -1)

    def _embed(self, images: jax.Array, view: str, train: bool):
        tokens, finer = self.towers[VIEWS[0] if self.shared else view](images, train)
        pooled = self.heads[view](tokens) if self.head == "smd" else tokens.mean(1)
        pooled = pooled.astype(jnp.float32)
        unit_rows = pooled * jax.lax.rsqrt(jnp.square(pooled).sum(-1, keepdims=True) + 1e-12)
        return unit_rows, tokens, finer

    def both(self, aerial: jax.Array, ground: jax.Array, train: bool = False):
        """Embeds a batch of pairs: two embeddings [B, D], unit length, float32."""
        return self(aerial, "aerial", train)[0], self(ground, "ground", train)[0]

    def inverse_temperature(self) -> jax.Array:
        """The factor of the similarities in the contrastive loss; if learned, at most 100."""
        if self.log_scale is None:
            return jnp.float32(1.0 / self.temperature)
        return jnp.exp(jnp.minimum(self.log_scale, math.log(_LARGEST_SCALE)))


class SourceEncoder(nn.Module):
    """One view of an embedder as another network's encoder, trained without contrastive loss."""

    embedder: Embedder
    view: str

    def __call__(self, images: jax.Array):
        """As `Embedder.guide` for this view."""
        return self.embedder.guide(images, self.view)
