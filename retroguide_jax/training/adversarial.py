"""The discriminator's and the generator's update, guided by the averaged embedder.

G runs forward once: its images are drawn under `jax.vjp`, D learns from them as constants, then
G's gradient, taken through D at the images, is pulled back through the kept forward pass.

The embedder's output is a constant here: only the contrastive loss trains it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from retroguide_jax.models.layers import downsample
from retroguide_jax.networks import embedder_variables
from retroguide_jax.parallel.mesh import replicate
from retroguide_jax.state import State
from retroguide_jax.training import losses, pairwise
from retroguide_jax.training.updates import Recipe, apply_gradients, average, select


class Guidance(NamedTuple):
    """What G and D may know of n sources.

    embedding: [n, E] unit rows of the guiding embedder; tokens: [n, N, T] of the same.
    source: [n, H, W, 3] in [-1, 1], the images, which only baselines read.
    """

    embedding: jax.Array
    tokens: jax.Array
    source: jax.Array


@jax.named_scope("generator_update")
def update_gan(recipe: Recipe, state: State, batch: dict[str, jax.Array], key: jax.Array):
    """One discriminator and one generator update, and G's moving average.

    Args:
      recipe: the static parts.
      state: the training state.
      batch: {"aerial": [B, Ha, Wa, 3], "ground": [B, Hg, Wg, 3]} in [-1, 1], of which
        `config.train.adversarial_batch_size` rows are used.
      key: of this step's noise.

    Returns:
      The state, metrics, and whether both updates were taken.
    """
    config, networks = recipe.config, recipe.networks
    num = config.train.adversarial_batch_size
    source = _take(batch[networks.source_view], num)
    target = _take(batch[networks.target_view], num)
    guide = embedder_variables(**replicate(state["ema"]["embedder"], recipe.mesh))
    embedding, tokens = networks.embedder.apply(guide, source, networks.source_view)
    guidance = Guidance(embedding, tokens, source)
    params = replicate(state["params"]["generator"], recipe.mesh)
    drawn, pull_back = jax.vjp(draw_images(recipe, guidance, target, key), params)

    judge = replicate(state["params"]["discriminator"], recipe.mesh)
    state, metrics, d_ok = _update_discriminator(
        recipe, state, judge, target, drawn["image"], guidance
    )
    if config.train.update_order == "alternating":
        judge = replicate(state["params"]["discriminator"], recipe.mesh)
    objective = generator_objective(recipe, judge, guide, params, guidance, target)
    (loss, terms), grad_drawn = jax.value_and_grad(objective, has_aux=True)(drawn)
    (grads,) = pull_back(grad_drawn)
    state, g_ok, norm = apply_gradients(recipe, state, "generator", loss, grads)
    averaged = average(
        config,
        state["ema"]["generator"],
        state["params"]["generator"],
        num,
        recipe.schedule.count("generator", state["step"]),
    )
    averaged = select(g_ok, averaged, state["ema"]["generator"])
    state = state | {"ema": state["ema"] | {"generator": averaged}}
    norms = {"g/grad": norm, "g/param_norm": optax.tree.norm(params)}
    return state, metrics | terms | norms, d_ok & g_ok


def draw_images(recipe: Recipe, guidance: Guidance, target, key) -> Callable[[Any], dict]:
    """A function of G's parameters that draws one image per row.

    With the style encoder, even rows use the style encoded from their own target (reconstruction
    is fair there) and odd rows the style mapped from noise.

    Returns:
      params -> {image [n, H, W, 3], low (the structure stage's image, or None), code [n, S] the
      styles used, encoded and mapped [n, S] for the matching term; with mode seeking also second,
      second_code: another image of each source}.
    """
    config, generator = recipe.config, recipe.networks.generator
    num = target.shape[0]
    layer_keys = jax.random.split(jax.random.fold_in(key, 0), num)
    noise_keys = jax.random.split(jax.random.fold_in(key, 1), 2)
    z = jax.random.normal(noise_keys[0], (num, generator.z_dim))

    def draw(params):
        def run(method, *args):
            return generator.apply({"params": params}, *args, method=method)

        def synthesize(code):
            return run(
                "synthesize", guidance.embedding, guidance.tokens, code, layer_keys, guidance.source
            )

        mapped = run("map_noise", z)
        encoded, code = jax.lax.stop_gradient(mapped), mapped
        if config.losses.style == "encoder":
            encoded = run("encode_style", target)
            jitter = config.losses.style_noise * jax.random.normal(noise_keys[1], encoded.shape)
            rows = reconstruction_rows(config, num)[:, None]
            # F follows the encoder's distribution alone; D's opinion must not pull it away.
            code = jnp.where(rows > 0, encoded + jitter, jax.lax.stop_gradient(mapped))
        image, low = synthesize(code)
        drawn = {"image": image, "low": low, "code": code, "encoded": encoded, "mapped": mapped}
        if config.losses.style == "mode_seeking":
            other = run("map_noise", jax.random.normal(noise_keys[1], z.shape))
            second, _ = synthesize(other)
            drawn |= {"second": second, "second_code": other}
        return drawn

    return draw


def reconstruction_rows(config, num: int) -> jax.Array:
    """[num] of 1 for the rows that are asked to reconstruct their target, else 0."""
    if config.losses.style == "encoder":
        return (jnp.arange(num) % 2 == 0).astype(jnp.float32)
    return jnp.ones(num)


def generator_objective(recipe: Recipe, judge, guide, params, guidance: Guidance, target):
    """G's loss as a function of what it drew: `drawn -> (loss, {name: term})`.

    Args:
      recipe: the static parts.
      judge: D's parameters.
      guide: the averaged embedder's variables.
      params: G's parameters, for the style encoder that reads styles back.
      guidance: of the sources.
      target: [n, H, W, 3].
    """
    config, networks = recipe.config, recipe.networks
    weights = config.losses
    rows = reconstruction_rows(config, target.shape[0])

    def loss_fn(drawn):
        image = drawn["image"]
        logits = networks.discriminator.apply(
            {"params": judge}, image, guidance.embedding, guidance.source
        )
        terms = {
            "g/adversarial": losses.generator_loss(weights.adversarial, logits),
            "g/l1": losses.masked_l1(image, target, rows),
        }
        total = weights.adversarial_weight * terms["g/adversarial"]
        total += weights.reconstruction_weight * terms["g/l1"]
        if drawn["low"] is not None:
            small = _shrink(target, drawn["low"].shape[1])
            terms["g/l1_low"] = losses.masked_l1(drawn["low"], small, rows)
            total += weights.low_reconstruction_weight * terms["g/l1_low"]
        if weights.retrieval != "off":
            generated, _ = networks.embedder.apply(guide, image, networks.target_view)
            if weights.retrieval == "info_nce":
                scale = 1.0 / weights.retrieval_temperature
                terms["g/retrieval"] = pairwise.info_nce(
                    generated,
                    guidance.embedding,
                    scale,
                    gather_fn=lambda rows: replicate(rows, recipe.mesh),
                )
            else:
                terms["g/retrieval"] = losses.retrieval_cosine(generated, guidance.embedding)
            total += weights.retrieval_weight * terms["g/retrieval"]
        if weights.style == "encoder":
            # Read the style back with a frozen copy of S, where the style came from noise.
            frozen = {"params": jax.lax.stop_gradient(params)}
            seen = networks.generator.apply(frozen, image, method="encode_style")
            error = jnp.square(seen - jax.lax.stop_gradient(drawn["code"])).mean(-1)
            terms["g/style_consistency"] = (error * (1.0 - rows)).sum() / (1.0 - rows).sum()
            total += weights.style_consistency_weight * terms["g/style_consistency"]
            encoded = jax.lax.stop_gradient(drawn["encoded"])
            terms["g/style_matching"] = losses.energy_distance(drawn["mapped"], encoded)
            total += weights.style_matching_weight * terms["g/style_matching"]
        elif weights.style == "mode_seeking":
            codes = drawn["code"], drawn["second_code"]
            terms["g/mode_seeking"] = losses.mode_seeking(image, drawn["second"], *codes)
            total += weights.mode_seeking_weight * terms["g/mode_seeking"]
        return total, terms

    return loss_fn


def discriminator_objective(recipe: Recipe, real, fake, guidance: Guidance):
    """D's loss as a function of its parameters: `params -> (loss, {name: mean logit})`.

    Args:
      recipe: the static parts.
      real: target images [n, H, W, 3] in [-1, 1].
      fake: what G drew for the same sources, likewise; a constant.
      guidance: of the sources.
    """
    discriminator = recipe.networks.discriminator

    def loss_fn(params):
        def run(method, *args):
            return discriminator.apply({"params": params}, *args, method=method)

        # Real and generated images share one pass; wrong pairs reuse the real images' features.
        twice = _interleave(guidance.source, guidance.source)
        features, patches = run("extract", _interleave(real, fake), twice)
        real_features, fake_features = _separate(features)
        real_patches, fake_patches = _separate(patches)
        condition = run("condition", guidance.embedding, guidance.source)
        right = run("judge", real_features, condition)
        made = run("judge", fake_features, condition)
        means = {"d/real": right.mean(), "d/fake": made.mean()}
        wrong = None
        if discriminator.tells_mismatches:
            wrong = run("judge", real_features, jnp.roll(condition, 1, 0))
            means["d/mismatched"] = wrong.mean()
        loss = losses.discriminator_loss(
            recipe.config.losses.adversarial,
            jnp.concatenate([right[:, None], real_patches], 1),
            jnp.concatenate([made[:, None], fake_patches], 1),
            wrong,
        )
        return loss, means

    return loss_fn


def penalty_objective(recipe: Recipe, real, guidance: Guidance):
    """D's gradient penalty as a function of its parameters; arguments as above."""

    def penalty_fn(params):
        def judge(images, embedding):
            return recipe.networks.discriminator.apply(
                {"params": params}, images, embedding, guidance.source
            )

        return losses.gradient_penalty(
            recipe.config.losses.penalty, judge, real, guidance.embedding
        )

    return penalty_fn


@jax.named_scope("discriminator_update")
def _update_discriminator(recipe: Recipe, state: State, params, target, fake, guidance: Guidance):
    """One update of D, whose gathered parameters are `params`."""
    weights = recipe.config.losses
    loss_fn = discriminator_objective(recipe, target, fake, guidance)
    penalty_fn = penalty_objective(recipe, target, guidance)

    def no_penalty(params):
        return jnp.float32(jnp.nan), jax.tree.map(jnp.zeros_like, params)

    (loss, metrics), grads = jax.value_and_grad(loss_fn, has_aux=True)(params)
    # Lazy regularisation (StyleGAN2): both branches are compiled once, only the due one runs.
    due = recipe.schedule.is_due("penalty", state["step"])
    penalty, more = jax.lax.cond(due, jax.value_and_grad(penalty_fn), no_penalty, params)
    scale = weights.penalty_weight * weights.penalty_every
    grads = jax.tree.map(lambda grad, extra: grad + scale * extra, grads, more)
    state, ok, norm = apply_gradients(recipe, state, "discriminator", loss, grads)
    norms = {"d/grad": norm, "d/param_norm": optax.tree.norm(params)}
    return state, metrics | {"d/loss": loss, "d/penalty": penalty} | norms, ok


def _interleave(a: jax.Array, b: jax.Array) -> jax.Array:
    """a0 b0 a1 b1 ...: laid one after the other, rows would have to move to other devices."""
    return jnp.stack([a, b], 1).reshape(2 * a.shape[0], *a.shape[1:])


def _separate(rows: jax.Array) -> tuple[jax.Array, jax.Array]:
    pairs = rows.reshape(rows.shape[0] // 2, 2, *rows.shape[1:])
    return pairs[:, 0], pairs[:, 1]


def _shrink(images: jax.Array, height: int) -> jax.Array:
    while images.shape[1] > height:
        images = downsample(images)
    return images


def _take(rows: jax.Array, num: int) -> jax.Array:
    """`num` rows of [B, ...], evenly spaced, so that every device keeps rows of its own."""
    return rows.reshape(num, rows.shape[0] // num, *rows.shape[1:])[:, 0]
