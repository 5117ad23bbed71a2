"""The discriminator's and the generator's update, guided by the averaged embedder.

G runs forward once: its images are drawn under `jax.vjp`, D learns from them as constants, then
G's gradient, taken through D at the images, is pulled back through the kept forward pass.

The embedder's output is a constant here: only the contrastive loss trains it.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from retroguide_jax import bank
from retroguide_jax.models.layers import scale_pixels
from retroguide_jax.networks import embedder_variables
from retroguide_jax.parallel.mesh import replicate
from retroguide_jax.state import TrainState
from retroguide_jax.training.augment import make_augmentation
from retroguide_jax.training.objectives import (
    STRUCTURE_TERMS,
    Guidance,
    Scene,
    discriminator_objective,
    generator_objective,
    penalty_objective,
    reconstruction_rows,
)
from retroguide_jax.training.updates import Recipe, apply_gradients, average, select


@jax.named_scope("generator_update")
def update_gan(recipe: Recipe, state: TrainState, batch: dict[str, jax.Array], key: jax.Array):
    """One discriminator and one generator update, and G's moving average.

    Args:
      recipe: the static parts.
      state: the training state.
      batch: as in `update_embedder`; `config.train.adversarial_batch_size` of its rows are used.
      key: random key of this step's noise.

    Returns:
      The state, metrics, and whether both updates were taken.
    """
    config, networks = recipe.config, recipe.networks
    num = config.train.adversarial_batch_size
    guide = embedder_variables(**replicate(state.ema["embedder"], recipe.mesh))
    guidance, target = _look_up(recipe, state, guide, batch)
    params = replicate(state.params["generator"], recipe.mesh)
    drawn, pull_back = jax.vjp(draw_images(recipe, guidance, target, key), params)

    disc_params = replicate(state.params["discriminator"], recipe.mesh)
    roll = bool(config.data.panorama) and networks.target_view == "ground"
    augment = make_augmentation(jax.random.fold_in(key, 2), num, config.losses.augment, roll)
    state, metrics, d_ok = _update_discriminator(
        recipe, state, disc_params, augment(target), augment(drawn["image"]), guidance
    )
    if config.train.update_order == "alternating":
        disc_params = replicate(state.params["discriminator"], recipe.mesh)
    negatives, styles = replicate((state.bank, state.styles), recipe.mesh)
    scene = Scene(
        recipe,
        guidance,
        target,
        guide=guide,
        params=params,
        disc_params=disc_params,
        augment=augment,
        bank=negatives,
        styles=styles,
    )
    objective = generator_objective(scene)
    (loss, terms), grad_drawn = jax.value_and_grad(objective, has_aux=True)(drawn)
    (grads,) = pull_back(grad_drawn)
    state, g_ok, norm = _apply_and_average(recipe, state, loss, grads)
    if negatives:
        filled = bank.add(negatives, guidance.embedding, guidance.place)
        state = state.replace(bank=select(g_ok, filled, negatives))
    state = _remember_styles(state, styles, drawn["encoded"], g_ok)
    norms = {"g/grad": norm, "g/param_norm": optax.tree.norm(params)}
    return state, metrics | terms | norms, d_ok & g_ok


@jax.named_scope("structure_update")
def update_structure(
    recipe: Recipe, state: TrainState, batch: dict[str, jax.Array], key: jax.Array
):
    """One update of G's structure stage alone, without D: G learns first where things are.

    Every row's style is the encoded one, and the low-resolution image approaches its target.
    Arguments and results as in `update_gan`.
    """
    guide = embedder_variables(**replicate(state.ema["embedder"], recipe.mesh))
    guidance, target = _look_up(recipe, state, guide, batch)
    params = replicate(state.params["generator"], recipe.mesh)
    draw = draw_images(recipe, guidance, target, key, structure=True)
    styles = replicate(state.styles, recipe.mesh)
    objective = generator_objective(Scene(recipe, guidance, target, styles=styles), STRUCTURE_TERMS)

    def loss_fn(params):
        drawn = draw(params)
        loss, terms = objective(drawn)
        return loss, (terms, drawn["encoded"])

    (loss, (terms, encoded)), grads = jax.value_and_grad(loss_fn, has_aux=True)(params)
    state, ok, norm = _apply_and_average(recipe, state, loss, grads)
    state = _remember_styles(state, styles, encoded, ok)
    terms = {name.replace("g/", "structure/"): value for name, value in terms.items()}
    norms = {"structure/grad": norm, "structure/param_norm": optax.tree.norm(params)}
    return state, terms | norms, ok


def _look_up(recipe: Recipe, state: TrainState, guide, batch) -> tuple[Guidance, jax.Array]:
    """The guidance of the step's pairs, and their target images."""
    networks, num = recipe.networks, recipe.config.train.adversarial_batch_size
    part = recipe.schedule.find_part(state.step)
    source, target = (
        scale_pixels(_take(batch[view], num, part))
        for view in (networks.source_view, networks.target_view)
    )
    embedding, tokens = networks.embedder.apply(guide, source, networks.source_view, method="guide")
    place = _take(batch["place"], num, part) if "place" in batch else None
    return Guidance(embedding, tokens, source, place), target


def _remember_styles(state: TrainState, styles: bank.Bank, encoded: jax.Array, ok) -> TrainState:
    """The state, whose bank of styles, if any, also holds the codes [n, S] of an update taken."""
    if not styles:
        return state
    return state.replace(styles=select(ok, bank.add(styles, encoded), styles))


def _apply_and_average(recipe: Recipe, state: TrainState, loss: jax.Array, grads):
    """One optimizer step of G and of its moving average; results as of `apply_gradients`."""
    state, ok, norm = apply_gradients(recipe, state, "generator", loss, grads)
    averaged = average(
        recipe.config.train.ema_halflife_generator,
        state.ema["generator"],
        state.params["generator"],
        recipe.schedule.count("generator", state.step),
    )
    averaged = select(ok, averaged, state.ema["generator"])
    return state.update(ema={"generator": averaged}), ok, norm


def draw_images(
    recipe: Recipe, guidance: Guidance, target, key, structure: bool = False
) -> Callable[[Any], dict]:
    """A function of G's parameters that draws one image per row.

    With the style encoder, even rows use the style encoded from their own target (reconstruction
    is fair there) and odd rows the style mapped from noise. With `structure`, the structure stage
    alone draws, and all rows use their own style.

    Returns:
      params -> {image [n, H, W, 3], or None with `structure`; low (the structure stage's image, or
      None); rows [n], 1 where the target should be reconstructed; code [n, S] the styles used;
      encoded [n, S] and mapped [m, S], m >= n, for the matching term; with mode seeking also
      second, second_code: another image of each source}.
    """
    config, generator = recipe.config, recipe.networks.generator
    num = target.shape[0]
    layer_keys = jax.random.split(jax.random.fold_in(key, 0), num)
    noise_keys = jax.random.split(jax.random.fold_in(key, 1), 2)
    num_codes = max(num, config.losses.style_draws)
    z = jax.random.normal(noise_keys[0], (num_codes, generator.z_dim))

    def draw(params):
        def run(method, *args):
            return generator.apply({"params": params}, *args, method=method)

        def synthesize(code):
            inputs = guidance.embedding, guidance.tokens, code, layer_keys, guidance.source
            if structure:
                return None, run("draw_structure", *inputs)
            return run("synthesize", *inputs)

        rows = jnp.ones(num) if structure else reconstruction_rows(config, num)
        codes = run("map_noise", z)
        mapped = codes[:num]
        encoded, code = jax.lax.stop_gradient(mapped), mapped
        if config.losses.style == "encoder":
            encoded = run("encode_style", target)
            if config.losses.style_kept and not structure:
                # F can follow codes that stay where they are, and averages of F, S and G agree.
                encoded = jax.lax.stop_gradient(encoded)
            jitter = config.losses.style_noise * jax.random.normal(noise_keys[1], encoded.shape)
            # F must follow the encoder's distribution alone: D's gradient must not pull it away.
            code = jnp.where(rows[:, None] > 0, encoded + jitter, jax.lax.stop_gradient(mapped))
        image, low = synthesize(code)
        drawn = {"image": image, "low": low, "rows": rows}
        drawn |= {"code": code, "encoded": encoded, "mapped": codes}
        if config.losses.style == "mode_seeking" and not structure:
            other = run("map_noise", jax.random.normal(noise_keys[1], z[:num].shape))
            second, _ = synthesize(other)
            drawn |= {"second": second, "second_code": other}
        return drawn

    return draw


@jax.named_scope("discriminator_update")
def _update_discriminator(
    recipe: Recipe, state: TrainState, params, target, fake, guidance: Guidance
):
    """One update of D, whose gathered parameters are `params`."""
    weights = recipe.config.losses
    loss_fn = discriminator_objective(recipe, target, fake, guidance)
    penalty_fn = penalty_objective(recipe, target, guidance)

    def no_penalty(params):
        return jnp.float32(jnp.nan), jax.tree.map(jnp.zeros_like, params)

    (loss, metrics), grads = jax.value_and_grad(loss_fn, has_aux=True)(params)
    # Lazy regularisation (StyleGAN2): both branches are compiled once, only the due one runs.
    due = recipe.schedule.is_due("penalty", state.step)
    penalty, more = jax.lax.cond(due, jax.value_and_grad(penalty_fn), no_penalty, params)
    scale = weights.penalty_weight * weights.penalty_every
    grads = jax.tree.map(lambda grad, extra: grad + scale * extra, grads, more)
    state, ok, norm = apply_gradients(recipe, state, "discriminator", loss, grads)
    norms = {"d/grad": norm, "d/param_norm": optax.tree.norm(params)}
    return state, metrics | {"d/loss": loss, "d/penalty": penalty} | norms, ok


def _take(rows: jax.Array, num: int, part: jax.Array) -> jax.Array:
    """`num` rows of [B, ...], evenly spaced, so that every device keeps rows of its own.

    `part`, below B / num, is the first of them.
    """
    rows = rows.reshape(num, rows.shape[0] // num, *rows.shape[1:])
    return jax.lax.dynamic_index_in_dim(rows, part, 1, keepdims=False)
