"""The generator: mapping network, style encoder, structure and facade stages."""

import itertools

import torch
from torch import Tensor, nn

from torch_reference import layers
from torch_reference.layers import (
    AttentionalAdaIN,
    Conv,
    NoiseInjection,
    RegionMask,
    RegionModulation,
    RMSNorm,
    at_least_float32,
    downsample,
    get_memory_format,
    leaky_relu,
    upsample,
)


def _to_sphere(code: Tensor) -> Tensor:
    """Scales [B, S] to length sqrt(S)."""
    code = at_least_float32(code)
    return code * torch.rsqrt(code.square().mean(-1, keepdim=True) + 1e-8)


class MappingNetwork(nn.Module):
    """Noise to style code."""

    def __init__(self, z_dim: int, style_dim: int, width: int, depth: int):
        super().__init__()
        widths = (z_dim, *(depth * (width,)), style_dim)
        self.dense = nn.ModuleList(
            nn.Linear(before, after) for before, after in zip(widths, widths[1:], strict=False)
        )

    def forward(self, z: Tensor) -> Tensor:
        """z [B, Z] to style codes [B, style_dim], of length sqrt(style_dim)."""
        x = _to_sphere(z)
        for dense in self.dense[:-1]:
            x = leaky_relu(dense(x))
        return _to_sphere(self.dense[-1](x))


class StyleEncoder(nn.Module):
    """A target image of `height` rows to the style code that explains it."""

    def __init__(self, height: int, style_dim: int, features: tuple[int, ...]):
        super().__init__()
        inputs = (3, *features)
        self.conv = nn.ModuleList(
            Conv(before, after, stride=2) for before, after in zip(inputs, features, strict=False)
        )
        rows = height // 2
        for _ in features:
            rows = -(-rows // 2)
        self.dense = nn.ModuleList(
            [nn.Linear(rows * features[-1], features[-1]), nn.Linear(features[-1], style_dim)]
        )

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] in [-1, 1] to style codes [B, style_dim]."""
        x = downsample(images)
        for conv in self.conv:
            x = leaky_relu(conv(x))
        # Channels innermost: the weights are in the order of NHWC.
        x = x.mean(3).transpose(1, 2).flatten(1)
        return _to_sphere(self.dense[1](leaky_relu(self.dense[0](x))))


class _Block(nn.Module):
    """The common part of both kinds of block: two convolutions with noise, and a shortcut."""

    def __init__(self, channels: int, features: int, circular: bool):
        super().__init__()
        self.circular, self.has_shortcut = circular, channels != features
        self.conv = nn.ModuleList()
        if self.has_shortcut:
            self.conv.append(Conv(channels, features, 1, bias=False))
        self.conv += [Conv(size, features, circular=circular) for size in (channels, features)]
        self.noise = nn.ModuleList(NoiseInjection(features) for _ in range(2))

    def shorten(self, h: Tensor) -> Tensor:
        """The shortcut: [B, C, H, W] to [B, features, H, W]."""
        return self.conv[0](h) if self.has_shortcut else h


class StructureBlock(_Block):
    """Twice [Attentional AdaIN, leaky ReLU, conv3x3, noise], x2 in between if `up`."""

    def __init__(
        self,
        channels,
        features,
        up: bool,
        form: str,
        width,
        token_width,
        circular,
        position=False,
        token_grid=(1, 1),
    ):
        super().__init__(channels, features, circular)
        self.up = up
        self.adain = nn.ModuleList(
            AttentionalAdaIN(form, size, width, token_width, position, circular, token_grid)
            for size in (channels, features)
        )

    def forward(self, h, embedding, tokens, style, noise) -> Tensor:
        """h [B, C, H, W] to [B, features, H', W']; noise: two of [B, 1, H', W']."""
        shortcut = self.shorten(h)
        for index in range(2):
            h = self.adain[index](h, embedding, tokens, style)
            h = self.conv[index - 2](leaky_relu(h))
            if self.up and index == 0:
                h, shortcut = upsample(h, self.circular), upsample(shortcut, self.circular)
            h = self.noise[index](h, noise[index])
        return (h + shortcut) * 0.5**0.5


class FacadeBlock(_Block):
    """A region mask, then as StructureBlock with region-aware modulation instead of attention."""

    def __init__(
        self, channels, features, up: bool, num_regions, mask_width, hidden, width, circular
    ):
        super().__init__(channels, features, circular)
        self.up = up
        self.mask = nn.ModuleList([RegionMask(channels, num_regions, mask_width, circular)])
        self.modulation = nn.ModuleList(
            RegionModulation(size, num_regions, width, hidden) for size in (channels, features)
        )

    def forward(self, h, condition, noise) -> Tensor:
        """h [B, C, H, W] to [B, features, H', W']; noise: two of [B, 1, H', W']."""
        mask, shortcut = self.mask[0](h), self.shorten(h)
        for index in range(2):
            h = self.modulation[index](h, mask, condition)
            h = self.conv[index - 2](leaky_relu(h))
            if self.up and index == 0:
                h, shortcut, mask = (upsample(x, self.circular) for x in (h, shortcut, mask))
            h = self.noise[index](h, noise[index])
        return (h + shortcut) * 0.5**0.5


class DirectionReader(nn.Module):
    """A map whose lines from the camera are functions of all tokens in and near each direction."""

    def __init__(self, size, features, token_width, token_grid, width, circular, depth=3):
        super().__init__()
        self.size, self.token_grid, self.circular = size, token_grid, circular
        self.rows = size[0] if circular else size[0] // 2
        narrow = width // 16
        widths = [(token_width, narrow), (token_grid[0] * narrow, width)]
        widths += depth * [(width, width)] + [(width, self.rows * features)]
        self.dense = nn.ModuleList(nn.Linear(*pair) for pair in widths)
        self.norm = nn.ModuleList(nn.RMSNorm(width, eps=1e-6) for _ in range(depth + 1))
        self.near = nn.Parameter(torch.randn(depth, 5, width) * 5**-0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens [B, N, T] to a map [B, features, *size]."""
        narrow, whole, *mix, draw = self.dense
        if self.circular:
            tokens = layers.sample_rays(tokens, self.token_grid[0], self.size[1])
        else:
            tokens = tokens.unflatten(1, self.token_grid).transpose(1, 2)
        column = whole(leaky_relu(narrow(tokens)).flatten(2))
        for norm, weights, dense in zip(self.norm, self.near, mix, strict=False):
            h = leaky_relu(norm(column))
            column = column + dense(sum(h.roll(tap - 2, 1) * weights[tap] for tap in range(5)))
        column = draw(leaky_relu(self.norm[-1](column)))
        lines = column.unflatten(2, (self.rows, -1)).permute(0, 3, 2, 1)
        return lines if self.circular else layers.sample_lines(lines, self.size[0])


class Generator(nn.Module):
    """Synthesis network with its mapping network and style encoder.

    Arguments are those of `retroguide_jax.models.generator.Generator`, and: `embedding_dim` and
    `token_width` of the embedder, `height` of the target images.
    """

    def __init__(
        self,
        start: tuple[int, int],
        embedding_dim: int,
        token_width: int,
        token_grid: tuple[int, int],
        height: int,
        structure_features: tuple[int, ...],
        facade_features: tuple[int, ...],
        width: int,
        z_dim: int,
        style_dim: int,
        mapping_depth: int,
        style_features: tuple[int, ...],
        aain_form: str,
        query_position: bool,
        num_regions: int,
        mask_width: int,
        modulation_hidden: int,
        unfold: int,
        normalise_last: bool,
        start_from_embedding: bool,
        start_rank: int,
        reader_width: int,
        use_embedding: bool,
        use_style: bool,
        circular: bool,
    ):
        super().__init__()
        self.start, self.z_dim, self.circular = start, z_dim, circular
        self.start_mix = None
        self.use_embedding, self.use_style = use_embedding, use_style
        self.mapping = MappingNetwork(z_dim, style_dim, width, mapping_depth)
        self.style_encoder = StyleEncoder(height, style_dim, style_features)
        self.style_to_w = nn.Linear(style_dim, width)
        self.embedding_to_e = nn.Linear(embedding_dim, width)
        first = structure_features[0]
        if start_from_embedding:
            num = start[0] * start[1]
            self.start_map = nn.Linear(width, (start_rank or num) * first)
            if start_rank:
                self.start_mix = nn.Parameter(torch.randn(num, start_rank) * start_rank**-0.5)
        else:
            self.start_map = nn.Parameter(torch.randn(*start, first))
        features = (first, *structure_features, *facade_features)
        self.unfold, num_blocks = unfold, len(features) - 1
        self.doubles = [0 < i < num_blocks - (unfold > 1) for i in range(num_blocks)]
        num_structure = len(structure_features)
        self.structure = nn.ModuleList(
            StructureBlock(
                features[i],
                features[i + 1],
                self.doubles[i],
                aain_form,
                width,
                token_width,
                circular,
                query_position,
                token_grid,
            )
            for i in range(num_structure)
        )
        self.facade = nn.ModuleList(
            FacadeBlock(
                features[i],
                features[i + 1],
                self.doubles[i],
                num_regions,
                mask_width,
                modulation_hidden,
                width,
                circular,
            )
            for i in range(num_structure, num_blocks)
        )
        self.reader = None
        if reader_width:
            times = 2 ** sum(self.doubles[:num_structure])
            size, last = (times * start[0], times * start[1]), features[num_structure]
            self.reader = DirectionReader(
                size, last, token_width, token_grid, reader_width, circular
            )
        if facade_features:
            self.low_rgb = Conv(features[num_structure], 3, circular=circular)
            self.low_norm = RMSNorm(features[num_structure]) if normalise_last else nn.Identity()
        self.norm = RMSNorm(features[-1]) if normalise_last else nn.Identity()
        self.rgb = Conv(features[-1], 3 * unfold**2, circular=circular)

    def noise_sizes(self) -> list[tuple[int, int]]:
        """Height and width of each noise map that `synthesize` takes, two per block."""
        scales = [2**i for i in itertools.accumulate(self.doubles)]
        return [(s * self.start[0], s * self.start[1]) for s in scales for _ in range(2)]

    def draw_noise(self, batch: int) -> list[Tensor]:
        """Draws noise maps [batch, 1, H, W] for `synthesize`."""
        like = self.rgb.weight
        return [
            torch.randn(batch, 1, *size, device=like.device, dtype=like.dtype)
            for size in self.noise_sizes()
        ]

    def synthesize(
        self,
        embedding: Tensor,
        tokens: Tensor,
        style_code: Tensor,
        noise: list[Tensor] | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Generates images.

        Args:
          embedding: [B, E] unit rows of the embedder for the source view.
          tokens: [B, N, T] of the same.
          style_code: [B, style_dim].
          noise: maps [B, 1, H, W] of the sizes `noise_sizes` gives; None for none.

        Returns:
          Images [B, 3, H, W] in [-1, 1], and the structure stage's own, or None with one stage.
        """
        noise = noise or 2 * len(self.doubles) * [None]
        h, e, w = self._build_structure(embedding, tokens, style_code, noise)
        low = self._draw_low(h) if self.facade else None
        condition = torch.cat([e, w], -1)
        for index, block in enumerate(self.facade):
            first = 2 * (len(self.structure) + index)
            h = block(h, condition, noise[first : first + 2])
        image = layers.unfold(self.rgb(leaky_relu(self.norm(h))), self.unfold)
        return torch.tanh(at_least_float32(image)), low

    def draw_structure(self, embedding, tokens, style_code, noise) -> Tensor:
        """The structure stage's images alone [B, 3, h, w]; arguments as in `synthesize`."""
        return self._draw_low(self._build_structure(embedding, tokens, style_code, noise)[0])

    def _build_structure(self, embedding, tokens, style_code, noise):
        """The structure stage's maps [B, C, h, w], with e and w."""
        e = self.embedding_to_e(embedding * embedding.shape[-1] ** 0.5)
        w = self.style_to_w(style_code)
        if not self.use_embedding:
            e, tokens = torch.zeros_like(e), torch.zeros_like(tokens)
        if not self.use_style:
            w = torch.zeros_like(w)
        if isinstance(self.start_map, nn.Linear):
            h = self.start_map(e)
            if self.start_mix is not None:
                h = self.start_mix.to(h.dtype) @ h.view(len(e), self.start_mix.shape[1], -1)
            h = h.view(len(e), *self.start, -1)
        else:
            h = self.start_map.to(e.dtype).expand(len(e), -1, -1, -1)
        h = h.permute(0, 3, 1, 2).contiguous(memory_format=get_memory_format(self.rgb.weight))
        for index, block in enumerate(self.structure):
            h = block(h, e, tokens, w, noise[2 * index : 2 * index + 2])
        h = h if self.reader is None else h + self.reader(tokens)
        return h, e, w

    def _draw_low(self, h: Tensor) -> Tensor:
        return torch.tanh(at_least_float32(self.low_rgb(leaky_relu(self.low_norm(h)))))
