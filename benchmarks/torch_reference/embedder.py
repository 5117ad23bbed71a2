"""The retrieval embedder: two SAIG towers and their readouts."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torch_reference.layers import BatchNorm, Conv, at_least_float32

VIEWS = ("aerial", "ground")


class Stem(nn.Module):
    """3 x 3 convolutions with normalisation (batch | group) and ReLU, then one of 1 x 1."""

    def __init__(self, features, strides, width: int, norm: str, circular: bool):
        super().__init__()
        self.strides, inputs = strides, (3, *features)
        self.conv = nn.ModuleList(
            Conv(before, after, stride=stride, circular=circular)
            for before, after, stride in zip(inputs, features, strides, strict=False)
        )
        self.conv.append(Conv(inputs[-1], width, 1))
        self.norm = nn.ModuleList(
            BatchNorm(size) if norm == "batch" else nn.GroupNorm(size // 8, size, eps=1e-6)
            for size in features
        )

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """[B, 3, H, W] to [B, width, H / s, W / s], s the product of the strides.

        Also returns the features before each halving, from the last to the first.
        """
        finer: list[Tensor] = []
        for conv, norm, stride in zip(self.conv, self.norm, self.strides, strict=False):
            if stride > 1:
                finer.insert(0, x)
            x = F.relu(norm(conv(x)))
        return self.conv[-1](x), finer


class SelfAttentionBlock(nn.Module):
    """x + Proj(MHSA(LayerNorm(x))), no MLP."""

    def __init__(self, width: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.norm = nn.ModuleList([nn.LayerNorm(width, eps=1e-6)])
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, C] to [B, N, C]."""
        qkv = self.qkv(self.norm[0](x)).unflatten(-1, (3, self.num_heads, -1))
        h = F.scaled_dot_product_attention(*qkv.permute(2, 0, 3, 1, 4).unbind())
        return x + self.proj(h.transpose(1, 2).flatten(2))


class SaigTower(nn.Module):
    """Stem, learned position embedding, attention-only blocks, LayerNorm.

    `grid`: the token grid (height, width); images of another size are not supported.
    """

    def __init__(
        self,
        grid: tuple[int, int],
        width: int,
        depth: int,
        num_heads: int,
        stem_features: tuple[int, ...],
        stem_strides: tuple[int, ...],
        stem_norm: str,
        circular: bool,
    ):
        super().__init__()
        self.stem = Stem(stem_features, stem_strides, width, stem_norm, circular)
        self.position = nn.Parameter(torch.randn(*grid, width) * 0.02)
        self.block = nn.ModuleList(SelfAttentionBlock(width, num_heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Images [B, 3, H, W] in [-1, 1] to tokens [B, N, width], and the stem's finer features."""
        x, finer = self.stem(images)
        x = x.flatten(2).transpose(1, 2)
        x = x + self.position.flatten(0, 1).to(x.dtype)
        for block in self.block:
            x = block(x)
        return self.norm(x), finer


class SmdHead(nn.Module):
    """An MLP over the token axis, then a linear map from N tokens to a few."""

    def __init__(self, num_tokens: int, num_outputs: int, expansion: int = 4):
        super().__init__()
        widths = (num_tokens, expansion * num_tokens, num_tokens, num_outputs)
        self.dense = nn.ModuleList(
            nn.Linear(before, after) for before, after in zip(widths, widths[1:], strict=False)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens [B, N, C] to [B, num_outputs * C]."""
        x = self.dense[1](F.gelu(self.dense[0](tokens.transpose(1, 2))))
        return self.dense[2](x).transpose(1, 2).flatten(1)


class Embedder(nn.Module):
    """Both towers and their readouts; arguments as of `retroguide_jax.models.embedder.Embedder`."""

    def __init__(
        self,
        grids: dict[str, tuple[int, int]],
        tower: dict,
        head: str,
        head_outputs: int,
        shared: bool,
        panorama: bool,
        learned_temperature: bool,
        temperature: float,
        fine_tokens: int,
    ):
        super().__init__()
        self.shared, self.temperature, self.fine_tokens = shared, temperature, fine_tokens
        self.towers = nn.ModuleDict()
        for view in VIEWS[:1] if shared else VIEWS:
            circular = panorama and view == "ground" and not shared
            self.towers[view] = SaigTower(grids[view], circular=circular, **tower)
        self.heads = nn.ModuleDict()
        if head == "smd":
            for view in VIEWS:
                self.heads[view] = SmdHead(math.prod(grids[view]), head_outputs)
        self.log_scale = None
        if learned_temperature:
            self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)))

    def forward(self, images: Tensor, view: str) -> tuple[Tensor, Tensor]:
        """Images [B, 3, H, W] to unit rows [B, D], at least float32, and tokens [B, N, C]."""
        return self._embed(images, view)[:2]

    def guide(self, images: Tensor, view: str) -> tuple[Tensor, Tensor]:
        """The same, with `fine_tokens` k finer maps beside the tokens: [B, 4^k N, C + F]."""
        embedding, tokens, finer = self._embed(images, view)
        if self.fine_tokens:
            finer = finer[: self.fine_tokens]
            size = finer[-1].shape[2:]
            coarse = [length // 2**self.fine_tokens for length in size]
            maps = [tokens.transpose(1, 2).unflatten(2, coarse), *finer]
            maps = [F.interpolate(x, size=size) for x in maps]
            tokens = torch.cat(maps, 1).flatten(2).transpose(1, 2)
        return embedding, tokens

    def _embed(self, images: Tensor, view: str) -> tuple[Tensor, Tensor, list[Tensor]]:
        tokens, finer = self.towers[VIEWS[0] if self.shared else view](images)
        pooled = self.heads[view](tokens) if self.heads else tokens.mean(1)
        pooled = at_least_float32(pooled)
        unit_rows = pooled * torch.rsqrt(pooled.square().sum(-1, keepdim=True) + 1e-12)
        return unit_rows, tokens, finer

    def both(self, aerial: Tensor, ground: Tensor) -> tuple[Tensor, Tensor]:
        """Embeds a batch of pairs: two arrays of unit rows [B, D]."""
        return self(aerial, "aerial")[0], self(ground, "ground")[0]

    def inverse_temperature(self) -> Tensor | float:
        """The factor of similarities in the contrastive loss; if learned, at most 100."""
        if self.log_scale is None:
            return 1.0 / self.temperature
        return self.log_scale.clamp(max=math.log(100.0)).exp()
