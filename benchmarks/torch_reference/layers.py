"""Layers shared by the networks: convolution on panoramas, resampling, normalisation, modulation.

All maps are NCHW. Unless a layer's docstring says otherwise, formulas are those of `layers`,
`resampling`, `attentional_adain` and `region_modulation` in `retroguide_jax.models`.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def at_least_float32(x: Tensor) -> Tensor:
    """Casts bfloat16, as autocast returns it, to float32; float64 stays."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def get_memory_format(weight: Tensor) -> torch.memory_format:
    """The format that a module was moved to, detected from a 3 x 3 kernel of several channels."""
    is_last = weight.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if is_last else torch.contiguous_format


def wrap_columns(x: Tensor, pad: int) -> Tensor:
    """[B, C, H, W] to [B, C, H, W + 2 pad] with circular columns."""
    return F.pad(x, (pad, pad, 0, 0), mode="circular")


class Conv(nn.Conv2d):
    """Square convolution that keeps the size (divided by `stride`); columns wrap if `circular`."""

    def __init__(
        self,
        in_channels: int,
        features: int,
        kernel_size: int = 3,
        stride: int = 1,
        circular: bool = False,
        bias: bool = True,
    ):
        # A 2 x 2 kernel of stride 2 tiles the image and needs no border.
        pad = kernel_size // 2 if stride < kernel_size else 0
        self.wrap = pad if circular else 0
        padding = (pad, pad - self.wrap)
        super().__init__(in_channels, features, kernel_size, stride, padding, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [B, C, H, W] to [B, features, ceil(H / stride), ceil(W / stride)]."""
        return super().forward(wrap_columns(x, self.wrap) if self.wrap else x)


def fold(x: Tensor, size: int) -> Tensor:
    """Space to depth: [B, C, H, W] to [B, size^2 C, H / size, W / size], channels innermost."""
    if size == 1:
        return x
    batch, channels, height, width = x.shape
    x = x.view(batch, channels, height // size, size, width // size, size)
    return x.permute(0, 3, 5, 1, 2, 4).reshape(batch, -1, height // size, width // size)


def unfold(x: Tensor, size: int) -> Tensor:
    """The inverse of `fold`."""
    if size == 1:
        return x
    batch, _, height, width = x.shape
    x = x.reshape(batch, size, size, -1, height, width).permute(0, 3, 4, 1, 5, 2)
    return x.reshape(batch, -1, size * height, size * width)


class BatchNorm(nn.Module):
    """Batch normalisation whose running variance is that of the batch, not the unbiased one.

    Flax's convention; `nn.BatchNorm2d` differs from it by n / (n - 1) in the running variance.
    """

    def __init__(self, features: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))
        self.register_buffer("running_mean", torch.zeros(features))
        self.register_buffer("running_var", torch.ones(features))

    def forward(self, x: Tensor) -> Tensor:
        """Normalises [B, C, H, W]: by the batch in training mode, else by the running values."""
        affine = self.weight, self.bias
        if not self.training:
            return F.batch_norm(x, self.running_mean, self.running_var, *affine)
        # Not empty_like: the kernel multiplies them by zero, and what lies in memory may be NaN.
        mean, variance = torch.zeros_like(self.running_mean), torch.zeros_like(self.running_var)
        y = F.batch_norm(x, mean, variance, *affine, training=True, momentum=1.0)
        count = x.numel() // x.shape[1]
        with torch.no_grad():
            self.running_mean.lerp_(mean, 0.1)
            self.running_var.lerp_(variance * ((count - 1) / count), 0.1)
        return y


def upsample(x: Tensor, circular: bool = False) -> Tensor:
    """Bilinear x2 of [B, C, H, W]; columns wrap when `circular`, otherwise the edge repeats."""
    if not circular:
        return F.interpolate(x, scale_factor=2, mode="bilinear")
    return F.interpolate(wrap_columns(x, 1), scale_factor=2, mode="bilinear")[..., 2:-2]


def downsample(x: Tensor) -> Tensor:
    """Mean over 2 x 2 blocks: [B, C, H, W] to [B, C, H/2, W/2]."""
    return F.avg_pool2d(x, 2)


def instance_norm(h: Tensor) -> Tensor:
    """(h - mu) / sqrt(var + 1e-5) per sample and channel of [B, C, H, W]."""
    return F.instance_norm(h)


def leaky_relu(x: Tensor) -> Tensor:
    """Slope 0.2."""
    return F.leaky_relu(x, 0.2)


class NoiseInjection(nn.Module):
    """Adds a noise map times a learned weight per channel."""

    def __init__(self, features: int):
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(features))

    def forward(self, h: Tensor, noise: Tensor | None) -> Tensor:
        """h [B, C, H, W], noise [B, 1, H, W] or None; returns h's shape."""
        if noise is None:
            return h
        return torch.addcmul(h, _to_map(self.scale).to(h.dtype), noise.to(h.dtype))


class Affine(nn.Module):
    """Two linear maps of a condition to per-channel (1 + gamma, beta)."""

    def __init__(self, in_features: int, features: int):
        super().__init__()
        self.dense = nn.ModuleList([nn.Linear(in_features, 2 * features)])

    def forward(self, condition: Tensor) -> tuple[Tensor, Tensor]:
        """[..., D] to two arrays [..., features]."""
        gamma, beta = self.dense[0](condition).chunk(2, -1)
        return 1.0 + gamma, beta


class AttentionalAdaIN(nn.Module):
    """Instance normalisation whose modulation weighs retrieved semantics and style per position.

    `form`: mask, channel, tokens, rays or plain; rays needs the rows and columns of the tokens.
    """

    def __init__(
        self,
        form: str,
        channels: int,
        width: int,
        token_width: int,
        position: bool = False,
        circular: bool = False,
        token_grid: tuple[int, int] = (1, 1),
        attention_width: int = 64,
    ):
        super().__init__()
        self.form, self.circular, self.token_grid = form, circular, token_grid
        self.distance = None
        if form == "rays":
            self.distance = nn.Parameter(0.5 * torch.randn(token_grid[0], attention_width))
        self.position = nn.Linear(16, attention_width, bias=False) if position else None
        if form == "plain":
            self.plain = Affine(2 * width, channels)
        elif form in ("tokens", "rays"):
            self.query = nn.Linear(channels, attention_width)
            self.key = nn.Linear(token_width, attention_width)
            self.value = nn.Linear(token_width, attention_width)
            self.context = Affine(attention_width + width, channels)
        else:
            is_mask = form == "mask"
            self.gate = Conv(channels, 1, 1) if is_mask else nn.Linear(2 * width, channels)
            self.semantic = Affine(width, channels)
            self.style = Affine(width, channels)

    def forward(self, h: Tensor, embedding: Tensor, tokens: Tensor, style: Tensor) -> Tensor:
        """h [B, C, H, W], embedding [B, D], tokens [B, N, T], style [B, D]; returns h's shape."""
        h = instance_norm(h)
        if self.form in ("tokens", "rays"):
            return self._attend(h, tokens, style)
        if self.form == "plain":
            return _modulate(h, *self.plain(torch.cat([embedding, style], -1)))
        if self.form == "mask":
            gate = torch.sigmoid(self.gate(h))
        else:
            gate = _to_map(torch.sigmoid(self.gate(torch.cat([embedding, style], -1))))
        semantic = _modulate(h, *self.semantic(embedding))
        visual = _modulate(h, *self.style(style))
        return torch.lerp(visual, semantic, gate)

    def _attend(self, h: Tensor, tokens: Tensor, style: Tensor) -> Tensor:
        batch, channels, height, width = h.shape
        rows = h.flatten(2).transpose(1, 2)
        query = self.query(rows)
        if self.position is not None:
            place = harmonics((height, width), self.circular, like=query)
            query = query + self.position(place.flatten(0, 1))
        key, value = self.key(tokens), self.value(tokens)
        if self.distance is None:
            context = F.scaled_dot_product_attention(query, key, value)
        elif self.circular:  # every column is a batch of its own
            key, value = (sample_rays(x, self.token_grid[0], width) for x in (key, value))
            key = key + self.distance.to(key.dtype)
            columns = query.unflatten(1, (height, width)).transpose(1, 2)
            context = F.scaled_dot_product_attention(columns, key, value)
            context = context.transpose(1, 2).flatten(1, 2)
        else:  # every position is
            size = (height, width)
            key, value = (_sample_columns(x, self.token_grid, size) for x in (key, value))
            key = key + self.distance.to(key.dtype)
            context = F.scaled_dot_product_attention(query[:, :, None], key, value)[:, :, 0]
        styles = style[:, None].expand(-1, height * width, -1)
        maps = self.context(torch.cat([context, styles], -1))
        gamma, beta = (x.transpose(1, 2).view(batch, channels, height, width) for x in maps)
        return torch.addcmul(beta, gamma, h)


def sample_rays(tokens: Tensor, side: int, width: int) -> Tensor:
    """Tokens [B, side^2, D] of an aerial image in `width` directions: [B, width, side, D].

    The centre column is north, and the last row is the nearest.
    """
    like = {"dtype": tokens.dtype, "device": tokens.device}
    angle = 2 * math.pi * ((torch.arange(width, **like) + 0.5) / width - 0.5)[:, None]
    radius = 1 - (torch.arange(side, **like) + 0.5) / side
    place = torch.stack([radius * angle.sin(), -radius * angle.cos()], -1)
    maps = tokens.transpose(1, 2).unflatten(2, (side, side))
    place = place.expand(len(maps), -1, -1, -1)
    sampled = F.grid_sample(maps, place, padding_mode="border", align_corners=False)
    return sampled.permute(0, 2, 3, 1)


def sample_lines(lines: Tensor, side: int) -> Tensor:
    """Lines [B, C, H, W] in W directions, the last row nearest, to an aerial map [B, C, S, S]."""
    turn, distance = _look_around((side, side), lines)
    width = lines.shape[3]
    lines = torch.cat([lines[..., -1:], lines, lines[..., :1]], 3)
    across = 2 * (turn * width + 1) / (width + 2) - 1
    down = 1 - 2 * distance / (side / 2**0.5)
    place = torch.stack([across, down], -1).expand(len(lines), -1, -1, -1)
    return F.grid_sample(lines, place, padding_mode="border", align_corners=False)


def _look_around(size: tuple[int, int], like: Tensor) -> tuple[Tensor, Tensor]:
    """Direction (0 to 1, north at 0.5) and distance of the places of an aerial map, [H, W] each."""
    south, east = (
        torch.arange(length, dtype=like.dtype, device=like.device) - (length - 1) / 2
        for length in size
    )
    turn = torch.atan2(east[None], -south[:, None]) / (2 * math.pi) + 0.5
    return turn, torch.hypot(south[:, None], east[None])


def _sample_columns(tokens: Tensor, grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Tokens [B, N, D] of a panorama in the directions of an aerial image: [B, H * W, rows, D].

    The centre column is north; so is the top of the aerial image.
    """
    turn, _ = _look_around(size, tokens)
    place = (turn * grid[1] - 0.5).flatten()
    before = place.floor()
    share = (place - before)[:, None, None]
    maps = tokens.unflatten(1, grid).transpose(1, 2)
    left, right = (maps[:, (before.long() + step) % grid[1]] for step in (0, 1))
    return torch.lerp(left, right, share)


def harmonics(size: tuple[int, int], circular: bool, like: Tensor, num: int = 4) -> Tensor:
    """[H, W, 4 num]: sines and cosines of rows, then of columns."""
    numbers = math.pi * torch.arange(1, num + 1, dtype=like.dtype, device=like.device)
    waves = []
    for length, factor in zip(size, (1.0, 2.0 if circular else 1.0), strict=True):
        place = torch.arange(length, dtype=like.dtype, device=like.device)[:, None] + 0.5
        angle = factor * numbers * place / length
        waves.append(torch.cat([angle.sin(), angle.cos()], -1))
    rows, columns = waves
    rows, columns = rows[:, None].expand(*size, -1), columns[None].expand(*size, -1)
    return torch.cat([rows, columns], -1)


class RMSNorm(nn.Module):
    """RMS normalisation over the channels of [B, C, H, W]."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, h: Tensor) -> Tensor:
        """[B, C, H, W] to the same shape."""
        size = at_least_float32(h).square().mean(1, keepdim=True)
        return (h * torch.rsqrt(size + 1e-6) * _to_map(self.weight)).to(h.dtype)


class RegionMask(nn.Module):
    """Unsupervised soft regions of a feature map; ones for `num_regions` 0."""

    def __init__(self, channels: int, num_regions: int, width: int, circular: bool):
        super().__init__()
        self.conv = nn.ModuleList()
        if num_regions:
            self.conv += [Conv(channels, width, circular=circular), Conv(width, num_regions, 1)]

    def forward(self, h: Tensor) -> Tensor:
        """[B, C, H, W] to [B, max(1, num_regions), H, W], in [0, 1]."""
        if not self.conv:
            return torch.ones_like(h[:, :1])
        logits = at_least_float32(self.conv[1](F.relu(instance_norm(self.conv[0](h)))))
        mask = torch.sigmoid(logits) if logits.shape[1] == 1 else logits.softmax(1)
        return mask.to(h.dtype)


class RegionModulation(nn.Module):
    """out = (1 + sum_k m_k gamma_k) IN(h) + sum_k m_k beta_k, (gamma_k, beta_k) from [e ; w]."""

    def __init__(self, channels: int, num_regions: int, width: int, hidden: int):
        super().__init__()
        self.num_regions = max(1, num_regions)
        self.dense = nn.ModuleList(
            [nn.Linear(2 * width, hidden), nn.Linear(hidden, 2 * self.num_regions * channels)]
        )

    def forward(self, h: Tensor, mask: Tensor, condition: Tensor) -> Tensor:
        """h [B, C, H, W], mask [B, K, H, W] in [0, 1], condition [B, D]; returns h's shape."""
        x = self.dense[1](leaky_relu(self.dense[0](condition)))
        gamma, beta = x.view(len(x), self.num_regions, -1).chunk(2, -1)
        out = normal = instance_norm(h)
        for k in range(self.num_regions):
            change = _modulate(normal, gamma[:, k], beta[:, k])
            out = torch.addcmul(out, mask[:, k : k + 1], change)
        return out


def _to_map(x: Tensor) -> Tensor:
    return x[..., None, None]


def _modulate(h: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    return torch.addcmul(_to_map(beta), _to_map(gamma), h)
