"""The generator: noise and retrieved semantics in one space, then structure, then facade.

z -> MappingNetwork -> style code -+-> w   [B, D]
x_t -> StyleEncoder -> style code -+           (training only: the code that explains the target)
embedder(x_s) -> FC -> e [B, D], tokens [B, N, T]
(e, tokens, w) -> structure blocks (Attentional AdaIN) + DirectionReader(tokens)
               -> low-resolution RGB
               -> facade blocks (region-aware modulation) -> RGB
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from retroguide_jax.models.attentional_adain import AttentionalAdaIN
from retroguide_jax.models.direction_reader import DirectionReader
from retroguide_jax.models.folding import unfold_images
from retroguide_jax.models.layers import Conv, Dtype, NoiseInjection, leaky_relu, rematerialise
from retroguide_jax.models.region_modulation import RegionMask, RegionModulation
from retroguide_jax.models.resampling import downsample, upsample


def _to_sphere(code: jax.Array) -> jax.Array:
    """Scales [B, S] to length sqrt(S), float32: on a sphere, with unit variance per dimension."""
    code = code.astype(jnp.float32)
    return code * jax.lax.rsqrt(jnp.square(code).mean(-1, keepdims=True) + 1e-8)


class MappingNetwork(nn.Module):
    """F: noise to style code. z is normalised, then `depth` x [FC, leaky ReLU] (StyleGAN)."""

    style_dim: int
    width: int = 512
    depth: int = 8
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        """z [B, Z] ~ N(0, I) to style codes [B, style_dim], of length sqrt(style_dim)."""
        x = _to_sphere(z)
        for _ in range(self.depth):
            x = leaky_relu(nn.Dense(self.width, dtype=self.dtype)(x))
        return _to_sphere(nn.Dense(self.style_dim, dtype=self.dtype)(x))


class StyleEncoder(nn.Module):
    """S: a target image to the style code that explains it; pooled, so that it cannot hold layout.

    `features`: channels of the stride-2 convolutions, applied to the image at half size.
    """

    style_dim: int
    features: tuple[int, ...] = (32, 64, 128, 256)
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Images [B, H, W, 3] in [-1, 1] to style codes [B, style_dim], with the length of F's."""
        x = downsample(images.astype(self.dtype))
        for features in self.features:
            x = leaky_relu(Conv(features, strides=2, dtype=self.dtype)(x))
        # Row means keep sky and ground apart; averaging over columns removes horizontal positions.
        x = x.mean(2).reshape(x.shape[0], -1)
        x = leaky_relu(nn.Dense(self.features[-1], dtype=self.dtype)(x))
        return _to_sphere(nn.Dense(self.style_dim, dtype=self.dtype)(x))


class StructureBlock(nn.Module):
    """Twice [Attentional AdaIN, leaky ReLU, conv3x3, noise], x2 in between, with a 1x1 shortcut.

    Doubling after the first convolution rather than before it costs a third of the arithmetic.
    `number` is the index of the block in its network.
    """

    features: int
    up: bool
    form: str
    circular: bool
    dtype: Dtype = jnp.float32
    number: int = 0
    position: bool = False
    token_grid: tuple[int, int] = (1, 1)

    @nn.compact
    def __call__(self, h, embedding, tokens, style, keys) -> jax.Array:
        """h [B, H, W, C] to [B, H', W', features]; embedding and style [B, D], tokens [B, N, T]."""
        shortcut = h
        if h.shape[-1] != self.features:
            shortcut = Conv(self.features, 1, use_bias=False, dtype=self.dtype)(h)
        for index in range(2):
            adain = AttentionalAdaIN(
                self.form, self.position, self.circular, self.token_grid, dtype=self.dtype
            )
            h = adain(h, embedding, tokens, style)
            h = Conv(self.features, circular=self.circular, dtype=self.dtype)(leaky_relu(h))
            if self.up and index == 0:
                h, shortcut = upsample(h, self.circular), upsample(shortcut, self.circular)
            h = NoiseInjection((self.number, index))(h, keys)
        return (h + shortcut) * jnp.sqrt(0.5).astype(h.dtype)


class FacadeBlock(nn.Module):
    """A region mask, then a StructureBlock with region-aware modulation in place of attention."""

    features: int
    up: bool
    num_regions: int
    mask_width: int
    hidden: int
    circular: bool
    dtype: Dtype = jnp.float32
    number: int = 0

    @nn.compact
    def __call__(self, h, condition, keys) -> jax.Array:
        """h [B, H, W, C] to [B, H', W', features]; condition [B, 2D] is [e ; w]."""
        mask = RegionMask(self.num_regions, self.mask_width, self.circular, self.dtype)(h)
        shortcut = h
        if h.shape[-1] != self.features:
            shortcut = Conv(self.features, 1, use_bias=False, dtype=self.dtype)(h)
        for index in range(2):
            h = RegionModulation(self.hidden, self.dtype)(h, mask, condition)
            h = Conv(self.features, circular=self.circular, dtype=self.dtype)(leaky_relu(h))
            if self.up and index == 0:
                h, shortcut, mask = (upsample(x, self.circular) for x in (h, shortcut, mask))
            h = NoiseInjection((self.number, index))(h, keys)
        return (h + shortcut) * jnp.sqrt(0.5).astype(h.dtype)


class Generator(nn.Module):
    """Synthesis network G with its mapping network F and style encoder S.

    The target size is fixed by `start` (h0, w0) and the number of blocks: the first structure block
    keeps the size, every later block doubles it. With `unfold` 2 the last block does not: it works
    at half the size, and the RGB head draws 2 x 2 pixels per position (`folding.unfold_images`).

    `normalise_last` puts an RMS norm (Zhang & Sennrich, 2019) over the channels of each position
    before the RGB heads: blocks normalise inside their branches only, so the sum of the branches
    may grow until tanh saturates. `query_position` is `position` of `AttentionalAdaIN`;
    `token_grid` (rows, columns) is that of the source's tokens, for `rays` and the reader.

    Ablations: `use_embedding` or `use_style` False replaces that input by zeros;
    `start_from_embedding` False starts from a learned constant; `aain_form` `plain`; `num_regions`
    0; without facade features there is one stage. `remat` as in `layers.rematerialise`.

    `start_rank` r factorises the map from e to the start: e gives r vectors of channels, which each
    position mixes by learned weights. With 0, each position has its own matrix, and these matrices
    are a third of G's parameters.

    `reader_width`, unless 0, adds a `DirectionReader` of that width to the structure stage's map.

    `encoder`, a module that maps source images to embedding and tokens, replaces the retrieval
    embedder and is trained with G: the baseline with a generic encoder.
    """

    start: tuple[int, int]
    structure_features: tuple[int, ...] = (512, 512, 512, 256)
    facade_features: tuple[int, ...] = (128, 64)
    width: int = 512
    z_dim: int = 512
    style_dim: int = 16
    mapping_depth: int = 8
    style_features: tuple[int, ...] = (32, 64, 128, 256)
    aain_form: str = "mask"
    query_position: bool = False
    num_regions: int = 1
    mask_width: int = 100
    modulation_hidden: int = 256
    unfold: int = 1
    normalise_last: bool = False
    start_from_embedding: bool = True
    start_rank: int = 0
    reader_width: int = 0
    use_embedding: bool = True
    use_style: bool = True
    circular: bool = True
    token_grid: tuple[int, int] = (1, 1)
    encoder: nn.Module | None = None
    remat: str = "none"
    dtype: Dtype = jnp.float32

    def setup(self):
        """Declares the networks F, S and G."""
        self.mapping = MappingNetwork(self.style_dim, self.width, self.mapping_depth, self.dtype)
        self.style_encoder = StyleEncoder(self.style_dim, self.style_features, self.dtype)
        self.style_to_w = nn.Dense(self.width, dtype=self.dtype)
        self.embedding_to_e = nn.Dense(self.width, dtype=self.dtype)
        shape = (*self.start, self.structure_features[0])
        num = shape[0] * shape[1]
        if self.start_from_embedding:
            self.start_map = nn.Dense((self.start_rank or num) * shape[2], dtype=self.dtype)
            if self.start_rank:
                init = nn.initializers.normal(self.start_rank**-0.5)
                self.start_mix = self.param("start_mix", init, (num, self.start_rank))
        else:
            self.start_map = self.param("start_map", nn.initializers.normal(1.0), shape)
        structure_block = rematerialise(StructureBlock, self.remat)
        facade_block = rematerialise(FacadeBlock, self.remat)
        self.structure = [
            structure_block(
                features,
                self._doubles(number),
                self.aain_form,
                self.circular,
                self.dtype,
                number,
                self.query_position,
                self.token_grid,
            )
            for number, features in enumerate(self.structure_features)
        ]
        self.facade = [
            facade_block(
                features,
                self._doubles(number),
                self.num_regions,
                self.mask_width,
                self.modulation_hidden,
                self.circular,
                self.dtype,
                number,
            )
            for number, features in enumerate(self.facade_features, len(self.structure))
        ]
        if self.reader_width:
            doubled = 2 ** sum(map(self._doubles, range(len(self.structure))))
            self.reader = DirectionReader(
                (doubled * self.start[0], doubled * self.start[1]),
                self.structure_features[-1],
                self.token_grid,
                self.reader_width,
                self.circular,
                dtype=self.dtype,
            )
        self.low_rgb = Conv(3, circular=self.circular, dtype=self.dtype) if self.facade else None
        if self.normalise_last:
            self.low_norm = nn.RMSNorm(dtype=self.dtype) if self.facade else None
            self.norm = nn.RMSNorm(dtype=self.dtype)
        self.rgb = Conv(3 * self.unfold**2, circular=self.circular, dtype=self.dtype)

    def _doubles(self, number: int) -> bool:
        """Whether block `number` doubles its map."""
        last = len(self.structure_features) + len(self.facade_features) - 1
        return number > 0 and (number < last or self.unfold == 1)

    def map_noise(self, z: jax.Array) -> jax.Array:
        """z [B, z_dim] ~ N(0, I) to style codes [B, style_dim]."""
        return self.mapping(z)

    def encode_style(self, images: jax.Array) -> jax.Array:
        """Target images [B, H, W, 3] in [-1, 1] to style codes [B, style_dim]."""
        return self.style_encoder(images)

    def synthesize(self, embedding, tokens, style_code, keys, source=None):
        """Draws images.

        Args:
          embedding: [B, E] unit-length output of the embedder for the source view.
          tokens: [B, N, T] token map of the same embedder.
          style_code: [B, style_dim] from `map_noise` or `encode_style`.
          keys: [B] PRNG keys of the per-layer noise, one per image; or None for no noise.
          source: source images [B, H, W, 3] in [-1, 1]; only `encoder` reads them.

        Returns:
          Images [B, H, W, 3] in [-1, 1], and the structure stage's own low-resolution images (or
          None with one stage), both float32.
        """
        h, e, w = self._build_structure(embedding, tokens, style_code, keys, source)
        low = self._draw_low(h) if self.facade else None
        condition = jnp.concatenate([e, w], -1)
        for block in self.facade:
            h = block(h, condition, keys)
        h = self.norm(h) if self.normalise_last else h
        image = unfold_images(self.rgb(leaky_relu(h)), self.unfold)
        return jnp.tanh(image.astype(jnp.float32)), low

    def draw_structure(self, embedding, tokens, style_code, keys, source=None):
        """The structure stage's images alone [B, h, w, 3]; arguments as in `synthesize`."""
        return self._draw_low(self._build_structure(embedding, tokens, style_code, keys, source)[0])

    def _build_structure(self, embedding, tokens, style_code, keys, source):
        """The structure stage's maps [B, h, w, C], with e and w [B, D]."""
        batch = embedding.shape[0]
        if self.encoder is not None:
            embedding, tokens = self.encoder(source)
        # A unit vector in E dimensions has tiny entries; sqrt(E) brings them to unit variance.
        e = self.embedding_to_e(embedding * jnp.sqrt(embedding.shape[-1]))
        w = self.style_to_w(style_code)
        if not self.use_embedding:
            e, tokens = jnp.zeros_like(e), jnp.zeros_like(tokens)
        if not self.use_style:
            w = jnp.zeros_like(w)
        if self.start_from_embedding:
            h = self.start_map(e).reshape(batch, -1, self.structure_features[0])  # pyright: ignore[reportCallIssue]
            if self.start_rank:
                h = jnp.einsum("pr,brc->bpc", self.start_mix.astype(self.dtype), h)
            h = h.reshape(batch, *self.start, -1)
        else:
            h = jnp.broadcast_to(self.start_map, (batch, *self.start_map.shape)).astype(self.dtype)  # pyright: ignore[reportArgumentType]
        for block in self.structure:
            h = block(h, e, tokens, w, keys)
        h = h + self.reader(tokens) if self.reader_width else h
        return h, e, w

    def _draw_low(self, h: jax.Array) -> jax.Array:
        # Only called where there is a facade stage, so neither layer is None.
        h = self.low_norm(h) if self.normalise_last else h  # pyright: ignore[reportOptionalCall]
        return jnp.tanh(self.low_rgb(leaky_relu(h)).astype(jnp.float32))  # pyright: ignore[reportOptionalCall]

    def __call__(self, embedding, tokens, z, images, keys, source=None):
        """Uses every parameter once, for initialisation. Shapes as in the methods above."""
        self.encode_style(images)
        return self.synthesize(embedding, tokens, self.map_noise(z), keys, source)
