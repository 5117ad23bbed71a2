"""The training step: contrastive, discriminator and generator update in one jitted function.

Order: embedder; then D on the images G draws; then G through the updated D.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from retroguide_jax.errors import UserError
from retroguide_jax.networks import Networks
from retroguide_jax.parallel.mesh import batch_sharding, compiler_options
from retroguide_jax.state import TrainState, make_optimizers
from retroguide_jax.training.adversarial import update_gan, update_structure
from retroguide_jax.training.contrastive import update_embedder
from retroguide_jax.training.updates import Recipe

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]


def make_train_step(
    config: ConfigDict, networks: Networks, mesh: Mesh, shardings: Any
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """Builds `train_step(state, batch) -> (state, metrics)`, jitted, the state donated.

    Args:
      config: the run's configuration.
      networks: its modules.
      mesh: the devices.
      shardings: the state's tree of NamedShardings.

    Returns:
      A function of the state and of {"aerial": [B, Ha, Wa, 3], "ground": [B, Hg, Wg, 3]}, uint8 in
      [0, 255] or float in [-1, 1], B = config.train.batch_size rows over the mesh. Metrics are
      float32 or int32 scalars, replicated; one that this step did not compute (a lazy or warm-up
      term) is NaN.
    """
    recipe = Recipe(config, networks, mesh, shardings.params, make_optimizers(config))
    schedule = recipe.schedule

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        step = state.step
        # The only source of randomness: resuming at a step repeats its noise exactly.
        key = jax.random.fold_in(jax.random.key(config.seed), step)
        metrics, skipped = {}, dict(state.skipped)
        if "embedder" in state.params:
            due = schedule.is_due("embedder", step)
            state, new, ok = _run_if(due, lambda s: update_embedder(recipe, s, batch), state)
            metrics |= new
            skipped["embedder"] = _count(skipped["embedder"], due, ok)
        if "generator" in state.params:
            due, all_ok = schedule.is_due("generator", step), True
            updates = {"discriminator": update_gan}
            if config.train.structure_steps:
                updates = {"structure": update_structure, **updates}
            for part, update in updates.items():
                run = functools.partial(_run_on, update, recipe, batch, key)
                state, new, ok = _run_if(schedule.is_due(part, step), run, state)
                metrics |= new
                all_ok &= ok
            skipped["generator"] = _count(skipped["generator"], due, all_ok)
        state = state.replace(skipped=skipped, step=step + 1)
        counts = skipped.values()
        metrics["skipped/total"] = sum(count["total"] for count in counts)
        metrics["skipped/streak"] = jnp.stack([count["streak"] for count in counts]).max()
        return state, metrics

    return jax.jit(
        train_step,
        in_shardings=(shardings, batch_sharding(mesh)),
        out_shardings=(shardings, NamedSharding(mesh, PartitionSpec())),
        donate_argnums=0,
        compiler_options=compiler_options(mesh),
    )


def _count(
    counts: dict[str, jax.Array], due: jax.Array, ok: jax.Array | bool
) -> dict[str, jax.Array]:
    """Counts a skipped update; steps on which none was due neither break nor lengthen a streak."""
    streak = jnp.where(ok, 0, counts["streak"] + 1)
    return {
        "total": counts["total"] + (due & ~ok),
        "streak": jnp.where(due, streak, counts["streak"]),
    }


def _run_on(update: Callable, recipe: Recipe, batch: Batch, key: jax.Array, state: TrainState):
    return update(recipe, state, batch, key)


def _run_if(due: jax.Array, update: Callable, state: TrainState):
    """Runs an update if due; otherwise returns the state unchanged, with NaN metrics."""
    # Trace once for both uses: with a warm compilation cache, tracing is most of the start-up time.
    update = jax.jit(update, inline=True)
    metrics = jax.eval_shape(update, state)[1]
    missing = jax.tree.map(lambda leaf: jnp.full(leaf.shape, jnp.nan, leaf.dtype), metrics)
    return jax.lax.cond(due, update, lambda state: (state, missing, jnp.array(True)), state)


def check_batches(config: ConfigDict, num_devices: int) -> None:
    """Checks the config's batch sizes against each other and against the number of devices.

    Raises:
      UserError: a size that does not divide as it must, naming the field.
    """
    train = config.train
    batch = train.batch_size
    if config.mode != "contrastive" and train.adversarial_batch_size < 2:
        raise UserError(
            f"config.train.adversarial_batch_size={train.adversarial_batch_size} must be at least "
            "2: half of the images reconstruct their target and half draw a style from noise, and "
            "a mismatched pair needs another place's condition; 4 or more are better"
        )
    if batch % train.adversarial_batch_size:
        raise UserError(
            f"config.train.adversarial_batch_size={train.adversarial_batch_size} must divide "
            f"config.train.batch_size={batch}"
        )
    if batch % num_devices or batch < 2:
        raise UserError(
            f"config.train.batch_size={batch} must be at least 2 and a multiple of the "
            f"number of devices, {num_devices}"
        )
    for bank in ("retrieval_bank", "style_bank"):
        if (size := config.losses[bank]) % train.adversarial_batch_size:
            raise UserError(
                f"config.losses.{bank}={size} must be a multiple of "
                f"config.train.adversarial_batch_size={train.adversarial_batch_size}; 0 is no bank"
            )
    chunk = config.losses.contrastive_chunk
    if chunk < 0 or (chunk and batch % chunk):
        raise UserError(
            f"config.losses.contrastive_chunk={chunk} must divide config.train.batch_size={batch}; "
            "0 takes all columns at once"
        )
    _check_micro_batches(config, num_devices)


def _check_micro_batches(config: ConfigDict, num_devices: int) -> None:
    batch, micro = config.train.batch_size, config.train.micro_batch_size
    if not micro:
        return
    if micro < 0 or batch % micro or micro % num_devices:
        raise UserError(
            f"config.train.micro_batch_size={micro} must divide config.train.batch_size={batch} "
            f"and be a multiple of the number of devices, {num_devices}; 0 embeds all at once"
        )
    embedder = config.embedder
    if embedder.backbone == "saig" and embedder.saig.stem_norm == "batch":
        raise UserError(
            f"config.train.micro_batch_size={micro} needs a network that does not mix examples: "
            "set config.embedder.saig.stem_norm=group, or save memory by config.train.remat, "
            "config.mesh.fsdp or config.losses.contrastive_chunk instead"
        )
