"""The losses as functions of arrays: float32, every mean over the global batch.

Losses over all pairs of a batch are in pairwise.py.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from retroguide_jax.choices import check_choice


def retrieval_cosine(generated: jax.Array, source: jax.Array) -> jax.Array:
    """1 - cos between the embeddings of generated image and source, mean over [B, D] rows."""
    return 1.0 - (generated * source).sum(-1).mean()


# Cost of D's logit on a generated or mismatched image.
_WRONGNESS = {"logistic": jax.nn.softplus, "hinge": lambda logits: jax.nn.relu(1.0 + logits)}


def discriminator_loss(
    kind: str,
    real: jax.Array,
    fake: jax.Array,
    mismatched: jax.Array | None,
    mask: jax.Array | None = None,
) -> jax.Array:
    """Loss of D on logits of matched real, generated and mismatched real images, each [B, ...].

    `kind` is `logistic` (non-saturating; Goodfellow et al., 2014) or `hinge` (Lim & Ye, 2017).
    Generated and mismatched images share one unit of weight (Reed et al., 2016); all of it goes to
    the generated ones where `mismatched` is None. `mask` [B] is 1 where the places of a mismatched
    pair really differ; `mismatched` is then [B].
    """
    check_choice("losses.adversarial", kind)
    penalise = _WRONGNESS[kind]
    wrong = penalise(fake).mean()
    if mismatched is not None:
        costs = penalise(mismatched)
        wrong = 0.5 * (wrong + (costs.mean() if mask is None else masked_mean(costs, mask)))
    return penalise(-real).mean() + wrong


def generator_loss(kind: str, fake: jax.Array) -> jax.Array:
    """Loss of G on D's logits [B, ...] of generated images; kinds as in `discriminator_loss`."""
    return jax.nn.softplus(-fake).mean() if kind == "logistic" else -fake.mean()


def gradient_penalty(
    kind: str,
    logits_fn: Callable[[jax.Array, jax.Array], jax.Array],
    images: jax.Array,
    embedding: jax.Array,
) -> jax.Array:
    """Penalty on D's gradient at matched real pairs.

    Args:
      kind: `r1`, half the mean squared norm of the image gradient (Mescheder et al., 2018), or
        `matching_aware`, the mean 6th power of the joint norm of the image and embedding gradients,
        times 2 (DF-GAN, Tao et al., 2022).
      logits_fn: maps images and embeddings to one logit per image, [B].
      images: [B, H, W, 3].
      embedding: [B, E].

    Returns:
      A scalar, without `config.losses.penalty_weight`.
    """

    def total(images, embedding):
        return logits_fn(images, embedding).sum()

    grad_images, grad_embedding = jax.grad(total, argnums=(0, 1))(images, embedding)
    squared = jnp.square(grad_images).sum((1, 2, 3))
    if kind == "r1":
        return 0.5 * squared.mean()
    check_choice("losses.penalty", kind)
    return 2.0 * ((squared + jnp.square(grad_embedding).sum(-1)) ** 3).mean()


def masked_mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean of `values` [B] where `mask` [B] is 1; 0 if the mask is 0 everywhere."""
    return (values * mask).sum() / jnp.maximum(mask.sum(), 1.0)


def masked_l1(prediction: jax.Array, target: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean absolute difference of [B, H, W, C] over the samples where mask [B] is 1."""
    return masked_mean(jnp.abs(prediction - target).mean((1, 2, 3)), mask)


def mode_seeking(
    image: jax.Array, other: jax.Array, code: jax.Array, other_code: jax.Array
) -> jax.Array:
    """Mean of |code - code'| / |image - image'| for images of one source (MSGAN, Mao et al., 2019).

    Images [B, H, W, C], codes [B, S]. Falls as equal style distances give larger pixel distances.
    """
    pixels = jnp.abs(image - other).mean((1, 2, 3))
    styles = jnp.abs(code - other_code).mean(-1)
    return (jax.lax.stop_gradient(styles) / (pixels + 1e-5)).mean()


def energy_distance(x: jax.Array, y: jax.Array, counts: jax.Array | None = None) -> jax.Array:
    """Energy distance between two samples of codes, x [N, S] and y [M, S] (Szekely & Rizzo, 2013).

    2 E|x - y| - E|x - x'| - E|y - y'| with unbiased within-sample means: zero in expectation if and
    only if the distributions agree, so minimising it matches F(z) to the encoded styles. A sample
    of one has no within-sample distance. `counts` [M] bool: which rows of y are
    part of it; None: all.
    """

    def lengths(a, b):
        squared = jnp.square(a[:, None] - b[None]).sum(-1)
        return jnp.sqrt(squared + 1e-8)

    num_x = x.shape[0]
    present = jnp.ones(y.shape[0]) if counts is None else counts.astype(jnp.float32)
    num_y = present.sum()
    between = (lengths(x, y) * present).sum() / (num_x * num_y)
    within_x = lengths(x, x).sum() / max(1, num_x * (num_x - 1))
    pairs_y = jnp.maximum(1.0, num_y * (num_y - 1.0))
    within_y = (lengths(y, y) * present * present[:, None]).sum() / pairs_y
    return 2.0 * between - within_x - within_y
