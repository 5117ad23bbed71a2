"""The training step: contrastive, discriminator and generator update in one jitted function.

Order (config.train.update_order `alternating`): embedder; then D on the images G draws; then G
through the updated D. G runs forward once: its images are drawn under `jax.vjp`, D learns from
them as constants, and G's gradient is pulled back through the kept forward pass.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from retroguide_jax.models.layers import downsample
from retroguide_jax.parallel.mesh import batch_sharding
from retroguide_jax.training import losses
from retroguide_jax.training.networks import Networks
from retroguide_jax.training.state import State, embedder_variables, make_optimizers

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]


def make_train_step(
    config: ConfigDict, networks: Networks, mesh: Mesh, shardings: Any
) -> Callable[[State, Batch], tuple[State, Metrics]]:
    """Builds `train_step(state, batch) -> (state, metrics)`, jitted, the state donated.

    Args:
      config: the run's configuration.
      networks: its modules.
      mesh: the devices.
      shardings: the state's tree of NamedShardings.

    Returns:
      A function of the state and of {"aerial": [B, Ha, Wa, 3], "ground": [B, Hg, Wg, 3]} in
      [-1, 1], B = config.train.batch_size rows over the mesh. Metrics are float32 scalars,
      replicated; one that this step did not compute (a lazy or warm-up term) is NaN.
    """
    optimizers = make_optimizers(config)
    train = config.train

    def train_step(state: State, batch: Batch) -> tuple[State, Metrics]:
        step = state["step"]
        key = jax.random.fold_in(jax.random.key(config.seed), step)
        state, metrics, applied = dict(state), {}, []
        warming = step < train.contrastive_warmup_steps
        if "embedder" in state["params"]:
            update = lambda state: update_embedder(config, networks, optimizers, state, batch)  # noqa: E731
            due = warming | (step % train.contrastive_every == 0)
            state, new, ok = _run_if(due, update, state)
            metrics |= new
            applied.append(ok)
        if "generator" in state["params"]:
            update = lambda state: update_gan(config, networks, optimizers, state, batch, key)  # noqa: E731
            due = True
            if config.mode == "joint" and train.contrastive_warmup_steps:
                due = ~warming
            state, new, ok = _run_if(due, update, state)
            metrics |= new
            applied.append(ok)
        skipped = ~jnp.stack(applied).all()
        streak = jnp.where(skipped, state["skipped"]["streak"] + 1, 0)
        total = state["skipped"]["total"] + skipped
        state["skipped"] = {"total": total, "streak": streak}
        state["step"] = step + 1
        return state, metrics | {"skipped/total": total, "skipped/streak": streak}

    replicated = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    return jax.jit(
        train_step,
        in_shardings=(shardings, batch_sharding(mesh)),
        out_shardings=(shardings, replicated),
        donate_argnums=0,
    )


def update_embedder(config, networks: Networks, optimizers, state: State, batch: Batch):
    """One contrastive update over the global batch, and the embedder's EMA."""
    params, stats = state["params"]["embedder"], state["stats"]["embedder"]

    def loss_fn(params):
        (aerial, ground, scale), updated = networks.embedder.apply(
            embedder_variables(params, stats),
            batch["aerial"],
            batch["ground"],
            True,
            method="both",
            mutable=["batch_stats"],
        )
        if config.losses.contrastive == "info_nce":
            loss = losses.info_nce(aerial, ground, scale)
        else:
            loss = losses.soft_margin_triplet(aerial, ground)
        nearest = (ground @ aerial.T).argmax(1)
        accuracy = (nearest == jnp.arange(nearest.shape[0])).mean()
        return loss, (updated.get("batch_stats", {}), accuracy)

    (loss, (new_stats, accuracy)), grads = jax.value_and_grad(loss_fn, has_aux=True)(params)
    state, ok, norm = _apply(optimizers, state, "embedder", loss, grads)
    kept = _select(ok, new_stats, stats)
    state["stats"] = state["stats"] | {"embedder": kept}
    decay = _ema_decay(config, config.train.batch_size, state["step"])
    averaged = {"params": state["params"]["embedder"], "stats": kept}
    state["ema"] = state["ema"] | {"embedder": _ema(decay, state["ema"]["embedder"], averaged)}
    metrics = {"contrastive/loss": loss, "contrastive/accuracy": accuracy, "contrastive/grad": norm}
    return state, metrics, ok


def update_gan(config, networks: Networks, optimizers, state: State, batch: Batch, key):
    """One discriminator and one generator update, guided by the averaged embedder, and G's EMA."""
    num = config.train.adversarial_batch_size
    source = _take(batch[networks.source_view], num)
    target = _take(batch[networks.target_view], num)
    guide = embedder_variables(**state["ema"]["embedder"])
    embedding, tokens = networks.embedder.apply(guide, source, networks.source_view)
    draw = draw_images(config, networks, embedding, tokens, target, key)
    drawn, pull_back = jax.vjp(draw, state["params"]["generator"])

    old = state["params"]["discriminator"]
    state, d_metrics, d_ok = _update_discriminator(
        config, networks, optimizers, state, target, jax.lax.stop_gradient(drawn["image"]), embedding
    )
    alternating = config.train.update_order == "alternating"
    judge = state["params"]["discriminator"] if alternating else old
    loss_fn = generator_objective(
        config, networks, judge, guide, state["params"]["generator"], embedding, target
    )
    (loss, g_metrics), grad_drawn = jax.value_and_grad(loss_fn, has_aux=True)(drawn)
    (grads,) = pull_back(grad_drawn)
    state, g_ok, norm = _apply(optimizers, state, "generator", loss, grads)
    warm = state["step"] - (config.train.contrastive_warmup_steps if config.mode == "joint" else 0)
    decay = _ema_decay(config, num, warm)
    averaged = _ema(decay, state["ema"]["generator"], state["params"]["generator"])
    state["ema"] = state["ema"] | {"generator": averaged}
    return state, d_metrics | g_metrics | {"g/grad": norm}, d_ok & g_ok


def draw_images(config, networks: Networks, embedding, tokens, target, key):
    """A function of G's parameters that draws one image per row, for `jax.vjp`.

    With the style encoder, even rows use the style encoded from their own target (reconstruction
    is fair there) and odd rows the style mapped from noise. Returns a dict: image [n, H, W, 3],
    low (or None), code [n, S] the styles used, encoded and mapped codes for the matching term.
    """
    num = target.shape[0]
    layer_keys = jax.random.split(jax.random.fold_in(key, 0), num)
    noise_keys = jax.random.split(jax.random.fold_in(key, 1), 2)
    z = jax.random.normal(noise_keys[0], (num, config.generator.z_dim))

    def draw(params):
        def run(method, *args):
            return networks.generator.apply({"params": params}, *args, method=method)

        mapped = run("map_noise", z)
        if config.losses.style == "encoder":
            encoded = run("encode_style", target)
            jitter = config.losses.style_noise * jax.random.normal(noise_keys[1], encoded.shape)
            rows = reconstruction_rows(config, num)[:, None]
            # F follows the encoder's distribution alone; D's opinion must not pull it away.
            code = jnp.where(rows > 0, encoded + jitter, jax.lax.stop_gradient(mapped))
        else:
            encoded, code = jax.lax.stop_gradient(mapped), mapped
        image, low = run("synthesize", embedding, tokens, code, layer_keys)
        return {"image": image, "low": low, "code": code, "encoded": encoded, "mapped": mapped}

    return draw


def reconstruction_rows(config, num: int) -> jax.Array:
    """[num] of 1 for the rows that are asked to reconstruct their target, else 0."""
    if config.losses.style == "encoder":
        return (jnp.arange(num) % 2 == 0).astype(jnp.float32)
    return jnp.ones(num)


def generator_objective(config, networks: Networks, judge, guide, params, embedding, target):
    """G's loss as a function of what it drew: adversarial, reconstruction, retrieval, style."""
    weights = config.losses
    num = target.shape[0]
    rows = reconstruction_rows(config, num)

    def loss_fn(drawn):
        image = drawn["image"]
        logits = networks.discriminator.apply({"params": judge}, image, embedding)
        terms = {"g/adversarial": losses.generator_loss(weights.adversarial, logits)}
        total = weights.adversarial_weight * terms["g/adversarial"]
        terms["g/l1"] = losses.masked_l1(image, target, rows)
        total += weights.reconstruction_weight * terms["g/l1"]
        if drawn["low"] is not None:
            small = target
            while small.shape[1] > drawn["low"].shape[1]:
                small = downsample(small)
            terms["g/l1_low"] = losses.masked_l1(drawn["low"], small, rows)
            total += weights.low_reconstruction_weight * terms["g/l1_low"]
        if weights.retrieval != "off":
            generated, _ = networks.embedder.apply(guide, image, networks.target_view)
            if weights.retrieval == "info_nce":
                scale = 1.0 / weights.retrieval_temperature
                terms["g/retrieval"] = losses.info_nce(generated, embedding, scale)
            else:
                terms["g/retrieval"] = losses.retrieval_cosine(generated, embedding)
            total += weights.retrieval_weight * terms["g/retrieval"]
        if weights.style == "encoder":
            # Read the style back with a frozen copy of S, on the rows whose style came from noise.
            seen = networks.generator.apply(
                {"params": jax.lax.stop_gradient(params)}, image, method="encode_style"
            )
            asked = jax.lax.stop_gradient(drawn["code"])
            error = jnp.square(seen - asked).mean(-1)
            terms["g/style_consistency"] = (error * (1.0 - rows)).sum() / (1.0 - rows).sum()
            total += weights.style_consistency_weight * terms["g/style_consistency"]
            encoded = jax.lax.stop_gradient(drawn["encoded"])
            terms["g/style_matching"] = losses.energy_distance(drawn["mapped"], encoded)
            total += weights.style_matching_weight * terms["g/style_matching"]
        return total, terms

    return loss_fn


def _update_discriminator(config, networks, optimizers, state, target, fake, embedding):
    discriminator, weights = networks.discriminator, config.losses
    params = state["params"]["discriminator"]

    def loss_fn(params):
        run = lambda method, *args: discriminator.apply({"params": params}, *args, method=method)  # noqa: E731
        # Real and generated images share one pass; a wrong pair reuses the real images' features.
        features, patches = run("extract", jnp.concatenate([target, fake]))
        real_features, fake_features = jnp.split(features, 2)
        real_patches, fake_patches = jnp.split(patches, 2)
        judge = lambda features, embedding: run("judge", features, embedding)[:, None]  # noqa: E731
        real = jnp.concatenate([judge(real_features, embedding), real_patches], 1)
        made = jnp.concatenate([judge(fake_features, embedding), fake_patches], 1)
        wrong = judge(real_features, jnp.roll(embedding, 1, 0))
        loss = losses.discriminator_loss(weights.adversarial, real, made, wrong)
        return loss, {
            "d/real": real[:, 0].mean(),
            "d/fake": made[:, 0].mean(),
            "d/mismatched": wrong.mean(),
        }

    def penalty_fn(params):
        logits_fn = lambda images, e: discriminator.apply({"params": params}, images, e)  # noqa: E731
        return losses.gradient_penalty(weights.penalty, logits_fn, target, embedding)

    (loss, metrics), grads = jax.value_and_grad(loss_fn, has_aux=True)(params)
    every = weights.penalty_every
    # Both branches are compiled once; only the due one runs (lazy regularisation, StyleGAN2).
    penalty, penalty_grads = jax.lax.cond(
        state["step"] % every == 0,
        jax.value_and_grad(penalty_fn),
        lambda params: (jnp.float32(jnp.nan), jax.tree.map(jnp.zeros_like, params)),
        params,
    )
    scale = weights.penalty_weight * every
    grads = jax.tree.map(lambda g, p: g + scale * p, grads, penalty_grads)
    state, ok, norm = _apply(optimizers, state, "discriminator", loss, grads)
    return state, metrics | {"d/loss": loss, "d/penalty": penalty, "d/grad": norm}, ok


def _run_if(due, update, state):
    """Runs an update, or leaves the state alone with NaN metrics, without tracing it twice."""
    if due is True:
        return update(state)
    _, metrics, _ = jax.eval_shape(update, state)
    missing = jax.tree.map(lambda m: jnp.full(m.shape, jnp.nan, m.dtype), metrics)
    return jax.lax.cond(due, update, lambda state: (state, missing, jnp.array(True)), state)


def _apply(optimizers, state, name, loss, grads):
    """One optimizer step, or none where the loss or a gradient is not finite."""
    params, opt = state["params"][name], state["opt"][name]
    norm = optax.global_norm(grads)
    ok = jnp.isfinite(loss) & jnp.isfinite(norm)
    updates, new_opt = optimizers[name].update(grads, opt, params)
    new_params = optax.apply_updates(params, updates)
    state = state | {
        "params": state["params"] | {name: _select(ok, new_params, params)},
        "opt": state["opt"] | {name: _select(ok, new_opt, opt)},
    }
    return state, ok, norm


def _select(ok, new, old):
    return jax.tree.map(lambda n, o: jnp.where(ok, n, o), new, old)


def _ema(decay, averaged, current):
    return jax.tree.map(lambda a, c: decay * a + (1.0 - decay) * c, averaged, current)


def _ema_decay(config, num_images: int, updates):
    """Decay with the configured half-life in images, shorter while the average is young."""
    decay = 0.5 ** (num_images / config.train.ema_halflife_images)
    return jnp.minimum(decay, (1.0 + updates) / (10.0 + updates))


def _take(rows: jax.Array, num: int) -> jax.Array:
    """`num` rows of [B, ...], evenly spaced, so that every device keeps rows of its own."""
    return rows.reshape(num, rows.shape[0] // num, *rows.shape[1:])[:, 0]
