"""Variants of a config: for other devices, batches, meshes and policies."""

from typing import Any

from ml_collections import ConfigDict

from retroguide_jax.errors import UserError


def change(config: ConfigDict, **fields: Any) -> ConfigDict:
    """A copy with these fields, dots written as two underscores: `train__remat="blocks"`."""
    config = config.copy_and_resolve_references()
    with config.unlocked():
        config.update_from_flattened_dict(
            {name.replace("__", "."): value for name, value in fields.items()}
        )
    return config


def scale_batches(config: ConfigDict, num_devices: int, per_device: int | None) -> ConfigDict:
    """A copy whose batches fit the devices.

    Args:
      config: the run's.
      num_devices: of the mesh.
      per_device: pairs a device sees a step; None keeps the config's global batch. The adversarial
        batch keeps its ratio to it.

    Raises:
      UserError: the config's batch does not divide over the devices, or the given one does not
        keep the ratio.
    """
    batch = config.train.batch_size
    if per_device is None:
        if batch % num_devices:
            raise UserError(
                f"config.train.batch_size={batch} does not divide over {num_devices} devices; give "
                "--per_device_batch=N, pairs a device, to plan a larger batch"
            )
        return config
    ratio = count_ratio(config)
    if per_device < 1 or per_device % ratio:
        raise UserError(
            f"--per_device_batch={per_device}: must be a positive multiple of {ratio}, for the "
            f"config's ratio of {batch} pairs to {config.train.adversarial_batch_size} adversarial "
            "ones"
        )
    return change(
        config,
        train__batch_size=per_device * num_devices,
        train__adversarial_batch_size=per_device * num_devices // ratio,
    )


def count_ratio(config: ConfigDict) -> int:
    """Pairs of the contrastive batch for each adversarial one."""
    return config.train.batch_size // config.train.adversarial_batch_size
