"""The embedder's update: a contrastive loss over the global batch."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import PartitionSpec

from retroguide_jax.degradation import degrade
from retroguide_jax.models.embedder import VIEWS
from retroguide_jax.models.layers import scale_pixels
from retroguide_jax.networks import embedder_variables
from retroguide_jax.parallel.mesh import AXES, BATCH_SPEC, replicate
from retroguide_jax.state import TrainState
from retroguide_jax.training import pairwise
from retroguide_jax.training.updates import Recipe, apply_gradients, average, select


@jax.named_scope("embedder_update")
def update_embedder(recipe: Recipe, state: TrainState, batch: dict[str, jax.Array]):
    """One contrastive update of both towers, and the embedder's moving average.

    Args:
      recipe: the static parts.
      state: the training state.
      batch: {"aerial": [B, Ha, Wa, 3], "ground": [B, Hg, Wg, 3]}, uint8 in [0, 255] or float in
        [-1, 1], and "place": [B] int, equal where pairs show the same place; it is absent if all
        places differ.

    Returns:
      The state, metrics, and whether the update was taken.
    """
    config = recipe.config
    batch = batch | {view: scale_pixels(batch[view]) for view in recipe.networks.sizes}
    if config.train.degrade:
        batch = batch | _degrade_views(recipe, batch, state.step)
    params, stats = state.params["embedder"], state.stats["embedder"]
    take = _differentiate_pieces if config.train.micro_batch_size else differentiate
    whole = replicate(params, recipe.mesh)
    loss, accuracy, grads, new_stats = take(recipe, whole, stats, batch)
    state, ok, norm = apply_gradients(recipe, state, "embedder", loss, grads)
    stats = select(ok, new_stats, stats)
    current = {"params": state.params["embedder"], "stats": stats}
    guide = average(
        config.train.ema_halflife_guide,
        state.ema["embedder"],
        current,
        recipe.schedule.count("embedder", state.step),
    )
    guide = select(ok, guide, state.ema["embedder"])
    state = state.update(stats={"embedder": stats}, ema={"embedder": guide})
    metrics = {"contrastive/loss": loss, "contrastive/accuracy": accuracy, "contrastive/grad": norm}
    return state, metrics | {"contrastive/param_norm": optax.tree.norm(params)}, ok


def _degrade_views(recipe: Recipe, batch: dict[str, jax.Array], step: jax.Array):
    """Degrades both views, each with its own key for this step."""
    key = jax.random.fold_in(jax.random.key(recipe.config.seed), step)
    return {
        view: degrade(
            jax.random.fold_in(key, number),
            batch[view],
            circular=view == "ground" and recipe.config.data.panorama,
        )
        for number, view in enumerate(VIEWS, 3)  # adversarial.py uses 0 to 2
    }


def differentiate(recipe: Recipe, params: Any, stats: Any, batch: dict[str, jax.Array]):
    """Loss, accuracy, gradients and new statistics, with the whole batch embedded at once."""
    embedder = recipe.networks.embedder

    def loss_fn(params):
        variables = embedder_variables(params, stats)
        (aerial, ground), updated = embedder.apply(
            variables,
            batch["aerial"],
            batch["ground"],
            True,
            method="both",
            mutable=["batch_stats"],
        )
        scale = embedder.apply(variables, method="inverse_temperature")
        loss, accuracy = _contrastive_loss(recipe, aerial, ground, scale, batch.get("place"))
        return loss, (accuracy, updated.get("batch_stats", {}))

    (loss, (accuracy, stats)), grads = jax.value_and_grad(loss_fn, has_aux=True)(params)
    return loss, accuracy, grads, stats


def _differentiate_pieces(recipe: Recipe, params: Any, stats: Any, batch: dict[str, jax.Array]):
    """As `differentiate`, but embeds the batch in pieces (GradCache, Gao 2021).

    The negatives are those of the full batch: all pieces are embedded and only the embeddings kept;
    the loss's gradient is taken with respect to these; then each piece is embedded again and its
    share of that gradient pulled back. Each device works through its own rows, so that the
    parameters' gradients are exchanged once. The network must not mix examples: no batch
    statistics.
    """
    embedder, config = recipe.networks.embedder, recipe.config
    num_pieces = config.train.batch_size // config.train.micro_batch_size

    def embed(params, aerial, ground):
        variables = embedder_variables(params, stats)
        return embedder.apply(variables, aerial, ground, True, method="both")

    def split(rows):
        return rows.reshape(num_pieces, -1, *rows.shape[1:])

    def embed_pieces(params, *views):
        pieces = jax.lax.map(lambda views: embed(params, *views), jax.tree.map(split, views))
        return jax.tree.map(lambda rows: rows.reshape(-1, rows.shape[-1]), pieces)

    def pull_back_pieces(params, views, grad_embeddings):
        def add(grads, piece):
            views, grad_embeddings = piece
            (more,) = jax.vjp(lambda params: embed(params, *views), params)[1](grad_embeddings)
            return jax.tree.map(jnp.add, grads, more), None

        pieces = jax.tree.map(split, (views, grad_embeddings))
        grads, _ = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, params), pieces)
        return jax.lax.psum(grads, AXES)

    def on_each_device(fn, *arguments, out_specs):
        specs = (PartitionSpec(), *(BATCH_SPEC for _ in arguments[1:]))
        return jax.shard_map(
            fn, mesh=recipe.mesh, in_specs=specs, out_specs=out_specs, check_vma=False
        )(*arguments)

    def scale_fn(params):
        return embedder.apply(embedder_variables(params, stats), method="inverse_temperature")

    views = (batch["aerial"], batch["ground"])
    embeddings = on_each_device(embed_pieces, params, *views, out_specs=BATCH_SPEC)
    scale, pull_back_scale = jax.vjp(scale_fn, params)
    loss_fn = jax.value_and_grad(_contrastive_loss, argnums=(1, 2, 3), has_aux=True)
    (loss, accuracy), (*grad_embeddings, grad_scale) = loss_fn(
        recipe, *embeddings, scale, batch.get("place")
    )
    grads = on_each_device(
        pull_back_pieces, params, views, tuple(grad_embeddings), out_specs=PartitionSpec()
    )
    (grads_of_scale,) = pull_back_scale(grad_scale)
    return loss, accuracy, jax.tree.map(jnp.add, grads, grads_of_scale), stats


def _contrastive_loss(
    recipe: Recipe, aerial: jax.Array, ground: jax.Array, scale: jax.Array, place: jax.Array | None
):
    """Loss of unit rows [B, D], and the share of panoramas whose nearest aerial is their own."""
    config = recipe.config.losses
    blocks = {
        "chunk": config.contrastive_chunk,
        "gather_fn": lambda rows: replicate(rows, recipe.mesh),
        "place": place,
    }
    if config.contrastive == "info_nce":
        loss = pairwise.info_nce(ground, aerial, scale, **blocks)
    else:
        loss = pairwise.soft_margin_triplet(ground, aerial, **blocks)
    return loss, pairwise.retrieval_accuracy(ground, aerial, **blocks)
