"""The discriminator: residual blocks, then heads without and with the embedding."""

import torch
from torch import Tensor, nn

from torch_reference import layers
from torch_reference.layers import Conv, at_least_float32, downsample, leaky_relu


class ResidualDown(nn.Module):
    """A 3 x 3 convolution and a 2 x 2 one with stride 2, beside a pooled 1 x 1 shortcut."""

    def __init__(self, channels: int, features: int, circular: bool):
        super().__init__()
        self.conv = nn.ModuleList(
            [
                Conv(channels, channels, circular=circular),
                Conv(channels, features, 2, stride=2),
                Conv(channels, features, 1, bias=False),
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, features, H/2, W/2]."""
        wide, down, shortcut = self.conv
        h = leaky_relu(down(leaky_relu(wide(x))))
        return (h + shortcut(downsample(x))) * 0.5**0.5


class Discriminator(nn.Module):
    """Arguments of `retroguide_jax.models.discriminator.Discriminator`, and two sizes.

    `size`: (height, width) of the images; `embedding_dim` of the embedder.
    """

    def __init__(
        self,
        size: tuple[int, int],
        embedding_dim: int,
        features: tuple[int, ...],
        width: int,
        conditioning: str,
        patch: bool,
        fold: int,
        circular: bool,
    ):
        super().__init__()
        if conditioning not in ("projection", "concat"):
            raise ValueError(f"conditioning {conditioning}: the PyTorch twin has no baselines")
        self.width, self.conditioning = width, conditioning
        self.fold = fold
        self.from_rgb = Conv(3 * fold**2, features[0], circular=circular)
        ends = (*features[1:], features[-1])
        self.blocks = nn.ModuleList(
            ResidualDown(before, after, circular)
            for before, after in zip(features, ends, strict=True)
        )
        positions = size[0] * size[1] // (fold**2 * 4 ** len(features))
        self.embed = nn.Linear(embedding_dim, width)
        if conditioning == "concat":
            self.joint = Conv(features[-1] + width, width // 4, circular=circular)
            self.joint_logit = nn.Linear(width // 4 * positions, 1)
        else:
            self.reduce = Conv(features[-1], 64, 1)
            self.describe = nn.Linear(64 * positions, width)
            self.unconditional = nn.Linear(width, 1)
        self.patch_block = max(0, len(features) - 2)
        self.patch_logit = Conv(features[self.patch_block], 1, 1) if patch else None

    def extract(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Images [B, 3, H, W] in [-1, 1] to the last map [B, C, h, w] and patch logits [B, P]."""
        x = leaky_relu(self.from_rgb(layers.fold(images, self.fold)))
        patches = None
        for index, block in enumerate(self.blocks):
            if self.patch_logit is not None and index == self.patch_block:
                patches = at_least_float32(self.patch_logit(x).flatten(1))
            x = block(x)
        return x, patches

    def score(self, features: Tensor, embedding: Tensor) -> Tensor:
        """Logits [B] of features [B, C, h, w] given unit rows [B, E]."""
        e = leaky_relu(self.embed(embedding * embedding.shape[-1] ** 0.5))
        if self.conditioning == "concat":
            maps = e[..., None, None].expand(-1, -1, *features.shape[2:])
            h = leaky_relu(self.joint(torch.cat([features, maps], 1)))
            return at_least_float32(self.joint_logit(_flatten(h))[:, 0])
        h = leaky_relu(self.describe(_flatten(leaky_relu(self.reduce(features)))))
        logit = self.unconditional(h)[:, 0] + (h * e).sum(-1) * self.width**-0.5
        return at_least_float32(logit)

    def forward(self, images: Tensor, embedding: Tensor) -> tuple[Tensor, ...]:
        """Logits of each head: [B] of the conditional one and, with `patch`, [B, P]."""
        features, patches = self.extract(images)
        logits = self.score(features, embedding)
        return (logits,) if patches is None else (logits, patches)


def _flatten(x: Tensor) -> Tensor:
    """[B, C, h, w] to [B, h w C]: the weights are in the order of NHWC."""
    return x.permute(0, 2, 3, 1).flatten(1)
