"""The embedder's update: a contrastive loss over the global batch."""

import jax
import jax.numpy as jnp

from retroguide_jax.networks import embedder_variables
from retroguide_jax.training import losses
from retroguide_jax.training.state import State
from retroguide_jax.training.updates import Recipe, apply_gradients, average, select


def update_embedder(recipe: Recipe, state: State, batch: dict[str, jax.Array]):
    """One contrastive update of both towers, and the embedder's moving average.

    Args:
      recipe: the static parts.
      state: the training state.
      batch: {"aerial": [B, Ha, Wa, 3], "ground": [B, Hg, Wg, 3]} in [-1, 1].

    Returns:
      The state, metrics, and whether the update was taken.
    """
    config, embedder = recipe.config, recipe.networks.embedder
    params, stats = state["params"]["embedder"], state["stats"]["embedder"]

    def loss_fn(params):
        (aerial, ground, scale), updated = embedder.apply(
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
    state, ok, norm = apply_gradients(recipe, state, "embedder", loss, grads)
    stats = select(ok, new_stats, stats)
    current = {"params": state["params"]["embedder"], "stats": stats}
    guide = average(
        config, state["ema"]["embedder"], current, config.train.batch_size, state["step"]
    )
    guide = select(ok, guide, state["ema"]["embedder"])
    state = state | {
        "stats": state["stats"] | {"embedder": stats},
        "ema": state["ema"] | {"embedder": guide},
    }
    metrics = {"contrastive/loss": loss, "contrastive/accuracy": accuracy, "contrastive/grad": norm}
    return state, metrics, ok
