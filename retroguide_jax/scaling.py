"""Scales learning rates, loss weights and run lengths with the global batch.

The rule, with k = batch_size / reference_batch:

* Adam's learning rates times sqrt(k) (Malladi et al., 2022, without their change of the betas);
* `num_steps`, `contrastive_warmup_steps` and `structure_steps` divided by k, so that they last as
  many images;
* the weight of the gradient penalty divided by k, as StyleGAN2-ADA's 0.0002 H W / B (Karras et al.,
  2020);
* half-lives of averages and warm-ups of rates unchanged: Adam's own averages need as many updates.

The rule assumes that the batch of G and D grows with the global batch, and that many updates are
left: a run is warned of few.
"""

from collections.abc import Sequence

from ml_collections import ConfigDict

from retroguide_jax.errors import UserError
from retroguide_jax.schedule import Schedule

_FEWEST_UPDATES = 200  # shorter half-lives give an average that is nearly the last weights
_FEWEST_STEPS = 800  # of a scaled run; with 200 one stayed behind (docs/scale.md)


def scale_config(config: ConfigDict) -> ConfigDict:
    """Applies `train.num_images` and, where `train.reference_batch` is set, the rule above.

    It is idempotent, since the result's reference batch is its own batch.

    Args:
      config: a run's config, locked or not.

    Returns:
      A locked copy.

    Raises:
      UserError: a field out of range.
    """
    config = config.copy_and_resolve_references().unlock()
    train = config.train
    for name in ("num_images", "reference_batch"):
        if train[name] < 0:
            raise UserError(f"config.train.{name}={train[name]}: give a positive number, or 0")
    if train.reference_batch:
        factor = train.batch_size / train.reference_batch
        for optimizer in config.optimizer.values():
            optimizer.learning_rate = float(f"{optimizer.learning_rate * factor**0.5:.6g}")
        config.losses.penalty_weight = float(f"{config.losses.penalty_weight / factor:.6g}")
        for name in ("contrastive_warmup_steps", "structure_steps"):
            train[name] = round(train[name] / factor)
        train.num_steps = max(1, round(train.num_steps / factor))
        train.reference_batch = train.batch_size
    if train.num_images:
        train.num_steps = -(-train.num_images // train.batch_size)
    return config.lock()


def make_table(
    config: ConfigDict, batches: Sequence[int], num_pairs: int = 0
) -> list[tuple[str, ...]]:
    """Rows of text: a config scaled by the rule to each global batch, after a row of titles.

    Args:
      config: a config; its own batch is the reference, unless it names another.
      batches: global batches; the batch of G and D keeps its share of each.
      num_pairs: pairs in the training split, to count epochs; 0: unknown.

    Raises:
      UserError: a batch of which the share of G and D is not an integer.
    """
    titles = "batch", "of G, D", "rates E, G, D", "warm-ups", "R1", "half-lives G, guide"
    rows: list[tuple[str, ...]] = [(*titles, "steps", "images", "epochs")]
    for batch in batches:
        scaled = config.copy_and_resolve_references().unlock()
        train = scaled.train
        share = batch * train.adversarial_batch_size
        if batch < 1 or share % train.batch_size:
            raise UserError(
                f"--batches: {batch} is no multiple of "
                f"{train.batch_size // train.adversarial_batch_size}, the pairs per pair of G and D"
            )
        train.reference_batch = train.reference_batch or train.batch_size
        train.adversarial_batch_size, train.batch_size = share // train.batch_size, batch
        scaled = scale_config(scaled)
        train = scaled.train
        images = Schedule(scaled).count_batches(train.num_steps) * batch
        optimizers = [scaled.optimizer[name] for name in ("embedder", "generator", "discriminator")]
        rows.append(
            (
                str(batch),
                str(train.adversarial_batch_size),
                ", ".join(f"{optimizer.learning_rate:.2g}" for optimizer in optimizers),
                ", ".join(str(optimizer.warmup_steps) for optimizer in optimizers),
                f"{scaled.losses.penalty_weight:.3g}",
                f"{train.ema_halflife_generator:g}, {train.ema_halflife_guide:g}",
                str(train.num_steps),
                str(images),
                f"{images / num_pairs:.3g}" if num_pairs else "?",
            )
        )
    return rows


def describe_length(config: ConfigDict, num_pairs: int) -> str:
    """A run's length on one line: steps, images, epochs of a split, and updates per network."""
    train, schedule = config.train, Schedule(config)
    images = schedule.count_batches(train.num_steps) * train.batch_size
    updates = ", ".join(f"{name} {schedule.count(name)}" for name in schedule.networks)
    return (
        f"{train.num_steps} steps read {images} pairs in batches of {train.batch_size}, "
        f"{images / num_pairs:.3g} epochs of {num_pairs}; updates: {updates}"
    )


def list_warnings(config: ConfigDict, num_devices: int, num_pairs: int) -> list[str]:
    """Warnings about a run's batch sizes, half-lives and scaled length, one line each.

    Args:
      config: of the run.
      num_devices: devices over all processes.
      num_pairs: pairs of the training split.
    """
    train, schedule, warnings = config.train, Schedule(config), []
    for name, network in (("generator", "generator"), ("guide", "embedder")):
        field = f"ema_halflife_{name}"
        if network in schedule.networks and train[field] < _FEWEST_UPDATES:
            warnings.append(
                f"config.train.{field}={train[field]:g}: an average over fewer than "
                f"{_FEWEST_UPDATES} updates is nearly the last weights"
            )
    if train.reference_batch and train.num_steps < _FEWEST_STEPS:
        warnings.append(
            f"config.train.num_steps={train.num_steps}: after scaling with the batch, a run of "
            f"{_FEWEST_STEPS} steps nearly kept up with the smaller batch, one of 200 did not; "
            "train on more images (config.train.num_images) or use a smaller batch"
        )
    if "embedder" in schedule.networks and train.batch_size > num_pairs:
        warnings.append(
            f"config.train.batch_size={train.batch_size} is more than the {num_pairs} training "
            "pairs: a batch repeats places, from which the contrastive loss learns nothing; set "
            "a smaller one"
        )
    num = train.adversarial_batch_size
    if "generator" in schedule.networks and num % num_devices:
        idle = -num % num_devices
        warnings.append(
            f"config.train.adversarial_batch_size={num} is no multiple of the number of devices, "
            f"{num_devices}: {idle} of them repeat the work of others for G and D"
        )
    return warnings
