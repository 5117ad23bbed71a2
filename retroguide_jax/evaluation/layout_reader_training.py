"""Training of the layout reader, on real panoramas only."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tensorflow_datasets as tfds

from retroguide_jax.data.pipeline import iterate_batches
from retroguide_jax.data.reading import get_features
from retroguide_jax.datasets.procedural_city.pairs import SKY_DEPTH
from retroguide_jax.degradation import degrade_colours
from retroguide_jax.errors import UserError
from retroguide_jax.models.layout_reader import LayoutReader

_READ_BATCH = 32
_METRICS_EVERY = 25  # steps; reading a metric blocks until its step is done


@dataclasses.dataclass(frozen=True)
class LayoutRecipe:
    """How a layout reader is trained; two equal recipes on the same data train the same reader.

    Attributes:
      num_steps: number of Adam steps.
      pixels_per_step: pixels per batch, so that a step costs the same at every size: 16 panoramas
        of 32 x 128, one of 128 x 512.
      learning_rate: peak, reached after `warmup_steps`; a cosine decay to 0 follows.
      warmup_steps: steps of linear increase, fewer than `num_steps`.
      depth_weight: of the depth loss; the label loss has weight 1.
      seed: of the initial weights, the order and the augmentation.
    """

    num_steps: int = 700
    pixels_per_step: int = 2**16
    learning_rate: float = 3e-3
    warmup_steps: int = 50
    depth_weight: float = 0.5
    seed: int = 0


def make_layout_reader(builder: tfds.core.DatasetBuilder, data_config) -> LayoutReader:
    """The network for a data set's classes, without weights.

    Args:
      builder: a built data set (`catalog.open_dataset`).
      data_config: `config.data`: ground_size.

    Raises:
      UserError: the data set stores no labels and depth, or the size does not suit the network.
    """
    if not {"labels", "depth"} <= get_features(builder).keys():
        raise UserError(
            f"data set {builder.info.full_name} has no labels and depth, so nothing says where its "
            "layout agrees; leave the metric layout out, or use procedural_city"
        )
    grain = LayoutReader.GRAIN
    if any(length % grain for length in data_config.ground_size):
        raise UserError(
            f"config.data.ground_size={tuple(data_config.ground_size)}: both sides must be "
            f"multiples of {grain} for the layout reader; choose such a size"
        )
    names = builder.info.metadata["label_names"]  # pyright: ignore[reportOptionalSubscript]
    return LayoutReader(num_classes=len(names))


def train_layout_reader(
    builder: tfds.core.DatasetBuilder,
    data_config,
    recipe: LayoutRecipe = LayoutRecipe(),  # noqa: B008, it is frozen
    progress_fn: Callable[[int, int, Mapping[str, float]], None] | None = None,
) -> dict[str, Any]:
    """Trains a layout reader on the real panoramas of `data_config.train_split`.

    The loss is the cross-entropy of the labels plus `depth_weight` times the mean absolute error
    of the log depth over the pixels that are not sky. Decoded panoramas stay in memory.

    Args:
      builder: a built data set with labels and depth (`catalog.open_dataset`).
      data_config: `config.data`: train_split, ground_size, aerial_size, num_threads.
      recipe: of the training.
      progress_fn: called every 25 steps and at the last with (steps done, total steps, {"loss",
        "label_agreement", "depth_error"}), all on that step's augmented batch.

    Returns:
      The network's variables, float32.

    Raises:
      UserError: as `make_layout_reader`; the split is unknown; stored labels are of another size.
    """
    net = make_layout_reader(builder, data_config)
    height, width = data_config.ground_size
    batch_size = max(1, recipe.pixels_per_step // (height * width))
    examples = _read_examples(builder, data_config, recipe.num_steps * batch_size)
    init_key, augment_key = jax.random.split(jax.random.key(recipe.seed))
    variables: Any = net.init(init_key, jnp.zeros((1, height, width, 3)))
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, recipe.learning_rate, recipe.warmup_steps, recipe.num_steps
    )
    optimizer = optax.adam(schedule)
    take_step = _compile_step(net, optimizer, recipe.depth_weight)
    opt_state = optimizer.init(variables)
    order = _draw_order(len(examples["labels"]), recipe.seed)
    for step in range(1, recipe.num_steps + 1):
        rows = list(itertools.islice(order, batch_size))
        batch = {name: values[rows] for name, values in examples.items()}
        key = jax.random.fold_in(augment_key, step)
        variables, opt_state, metrics = take_step(variables, opt_state, key, batch)
        if progress_fn and (step % _METRICS_EVERY == 0 or step == recipe.num_steps):
            metrics = {name: float(value) for name, value in metrics.items()}
            progress_fn(step, recipe.num_steps, metrics)
    return variables


def _compile_step(net: LayoutReader, optimizer: optax.GradientTransformation, depth_weight: float):
    def loss_fn(variables, images, labels, log_depth, has_depth):
        logits, read_depth = net.apply(variables, images)
        label_loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
        depth_error = jnp.abs(read_depth - log_depth).mean(where=has_depth)
        loss = label_loss + depth_weight * depth_error
        agreement = (logits.argmax(-1) == labels).mean()
        return loss, {"loss": loss, "label_agreement": agreement, "depth_error": depth_error}

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def take_step(variables, opt_state, key, batch):
        images = degrade_colours(key, batch["ground"].astype(jnp.float32) / 127.5 - 1.0)
        log_depth = jnp.log(jnp.maximum(batch["depth"].astype(jnp.float32), 1.0) / 100.0)
        truth = (batch["labels"].astype(jnp.int32), log_depth, batch["depth"] < SKY_DEPTH)
        grads, metrics = jax.grad(loss_fn, has_aux=True)(variables, images, *truth)
        updates, opt_state = optimizer.update(grads, opt_state)
        return optax.apply_updates(variables, updates), opt_state, metrics

    return take_step


def _read_examples(builder, data_config, most: int) -> dict[str, np.ndarray]:
    """The first `most` examples of the training split: the training uses no more."""
    split = data_config.train_split
    batches = iterate_batches(
        builder, data_config, split, batch_size=_READ_BATCH, with_scene_layout=True
    )
    parts = []
    for batch in itertools.islice(batches, -(-most // _READ_BATCH)):
        batch = {name: batch[name][batch["mask"]] for name in ("ground", "labels", "depth")}
        parts.append(batch)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _draw_order(num: int, seed: int) -> Iterator[int]:
    """Endless shuffled passes over 0 .. num - 1."""
    rng = np.random.default_rng(seed)
    while True:
        yield from rng.permutation(num)
