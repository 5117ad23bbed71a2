"""Which batch sizes go together."""

from ml_collections import ConfigDict

from retroguide_jax.errors import UserError


def check_batches(config: ConfigDict, num_devices: int) -> None:
    """Checks the config's batch sizes against each other and against the number of devices.

    Raises:
      UserError: a size that does not divide as it must, naming the field.
    """
    train = config.train
    batch = train.batch_size
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
