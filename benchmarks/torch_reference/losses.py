"""Losses as functions of tensors; formulas and sources as in `retroguide_jax.training`."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def info_nce(
    source: Tensor, target: Tensor, scale: Tensor | float, bank: Tensor | None = None
) -> Tensor:
    """Symmetric InfoNCE of unit rows [B, D] with all in-batch negatives; scale: 1 / temperature.

    `bank`: [K, D], further negatives of `source`.
    """
    more = target if bank is None else torch.cat([target, bank])
    own = torch.arange(len(source), device=source.device)
    forward = F.cross_entropy(scale * source @ more.T, own)
    return 0.5 * (forward + F.cross_entropy(scale * target @ source.T, own))


def soft_margin_triplet(source: Tensor, target: Tensor, alpha: float = 10.0) -> Tensor:
    """log(1 + exp(alpha (d_pos - d_neg))) over all negatives of rows [B, D], both directions."""
    similarity = source @ target.T
    positive = similarity.diagonal()
    off = ~torch.eye(len(source), dtype=torch.bool, device=source.device)
    by_row = _softplus(2 * alpha * (similarity - positive[:, None]))
    by_column = _softplus(2 * alpha * (similarity - positive))
    return 0.5 * torch.where(off, by_row + by_column, 0).sum() / (off.numel() - len(source))


def retrieval_accuracy(source: Tensor, target: Tensor) -> Tensor:
    """Share of rows of `source` [B, D] nearest to their own row of `target`; ties are misses."""
    similarity = source.detach() @ target.detach().T
    own = similarity.diagonal().clone()
    others = similarity.fill_diagonal_(-torch.inf).amax(1)
    return (own > others).to(source.dtype).mean()


def retrieval_cosine(generated: Tensor, source: Tensor) -> Tensor:
    """1 - cos of unit rows [B, D], their mean."""
    return 1.0 - (generated * source).sum(-1).mean()


def discriminator_loss(kind: str, real: Tensor, fake: Tensor, mismatched: Tensor | None) -> Tensor:
    """D's loss on logits [B, ...]; fake and mismatched pairs share one unit of weight."""
    penalise = _softplus if kind == "logistic" else lambda logits: F.relu(1.0 + logits)
    wrong = penalise(fake).mean()
    if mismatched is not None:
        wrong = 0.5 * (wrong + penalise(mismatched).mean())
    return penalise(-real).mean() + wrong


def generator_loss(kind: str, fake: Tensor) -> Tensor:
    """G's loss on D's logits [B, ...]."""
    return _softplus(-fake).mean() if kind == "logistic" else -fake.mean()


def gradient_penalty(
    kind: str, logits_fn: Callable[[Tensor, Tensor], Tensor], images: Tensor, embedding: Tensor
) -> Tensor:
    """Penalty (r1 | matching_aware) on D's gradient at matched real pairs, to be differentiated.

    Args:
      kind: "r1" or "matching_aware".
      logits_fn: (images, embedding) -> one logit per image, [B].
      images: [B, 3, H, W].
      embedding: [B, E].
    """
    inputs = [images.detach().requires_grad_()]
    if kind == "matching_aware":
        embedding = embedding.detach().requires_grad_()
        inputs.append(embedding)
    total = logits_fn(inputs[0], embedding).sum()
    grads = torch.autograd.grad(total, inputs, create_graph=True)
    squared = sum(grad.square().flatten(1).sum(1) for grad in grads)
    return 0.5 * squared.mean() if kind == "r1" else 2.0 * (squared**3).mean()


def masked_l1(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute difference of [B, C, H, W] over the samples where mask [B] is 1."""
    per_sample = (prediction - target).abs().mean((1, 2, 3))
    return (per_sample * mask).sum() / mask.sum().clamp(min=1.0)


def mode_seeking(image: Tensor, other: Tensor, code: Tensor, other_code: Tensor) -> Tensor:
    """Mean of |code - code'| / |image - image'|; images [B, C, H, W], codes [B, S]."""
    pixels = (image - other).abs().mean((1, 2, 3))
    styles = (code - other_code).detach().abs().mean(-1)
    return (styles / (pixels + 1e-5)).mean()


def energy_distance(x: Tensor, y: Tensor) -> Tensor:
    """Energy distance between codes x [N, S] and y [M, S], unbiased within samples."""

    def mean_distance(a: Tensor, b: Tensor, pairs: int) -> Tensor:
        squared = (a[:, None] - b).square().sum(-1)
        return (squared + 1e-8).sqrt().sum() / pairs

    num_x, num_y = len(x), len(y)
    within_x = mean_distance(x, x, num_x * (num_x - 1))
    within_y = mean_distance(y, y, num_y * (num_y - 1))
    return 2.0 * mean_distance(x, y, num_x * num_y) - within_x - within_y


def _softplus(x: Tensor) -> Tensor:
    # F.softplus is the identity beyond 20, which is not exact in float64.
    return -F.logsigmoid(-x)
