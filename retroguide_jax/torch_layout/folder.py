"""A model as a folder of .safetensors files, one per network, beside its config.json.

`retroguide weights export` writes such a folder, and whatever takes a trained model reads it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from retroguide_jax.errors import UserError
from retroguide_jax.files import is_in_bucket
from retroguide_jax.networks import Networks
from retroguide_jax.state import initial_state
from retroguide_jax.torch_layout import axes, variables
from retroguide_jax.torch_layout.names import name_parameter
from retroguide_jax.weights import reading

CONFIG = "config.json"
_STEP = "step"  # in a file's metadata: the training step of the weights


def is_model_folder(path: Path) -> bool:
    """Whether a local folder holds a model in this form; a work directory does not."""
    return not is_in_bucket(path) and get_path(path, "embedder").is_file()


def get_path(folder: Path, network: str) -> Path:
    """The file of a network: "embedder", "generator" or "discriminator"."""
    return folder / f"{network}.safetensors"


def write_networks(
    networks: Mapping[str, Any], folder: Path, step: int, dtype: str = "float32"
) -> dict[str, dict[str, np.ndarray]]:
    """Writes one file per network.

    Args:
      networks: network -> its arrays, see `variables.get_networks`.
      folder: made if missing.
      step: the training step of the weights.
      dtype: of the arrays in the files.

    Returns:
      Network -> name in the file -> array.

    Raises:
      UserError: a file cannot be written.
    """
    named: dict[str, dict[str, np.ndarray]] = {network: {} for network in networks}
    for name, leaf in variables.flatten(networks).items():
        network, _, path = name.partition("/")
        array = axes.to_torch(name, np.asarray(leaf))
        named[network][name_parameter(path)] = array.astype(dtype, copy=False)
    for network, arrays in named.items():
        reading.write_arrays(get_path(folder, network), arrays, **{_STEP: str(step)})
    return named


def read_networks(
    folder: Path, config: ConfigDict, networks: Networks
) -> tuple[dict[str, Any], int]:
    """Reads the averaged weights of a config's networks.

    Args:
      folder: holds embedder.safetensors and, unless config.mode is contrastive, that of the
        generator.
      config: config of the networks.
      networks: modules of the config.

    Returns:
      The tree of float32 arrays that `inference.Model.load` takes, and the training step; 0 if the
      files do not name it.

    Raises:
      UserError: a file is missing or damaged, or lacks an array of the config's networks.
    """
    wanted = jax.eval_shape(lambda: initial_state(config, networks)).ema
    arrays = {name: reading.read_arrays(get_path(folder, name)) for name in wanted}

    def take(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        name = variables.join_path(path)
        network, _, rest = name.partition("/")
        theirs = name_parameter(rest)
        array = arrays[network].get(theirs)
        moved = None if array is None else axes.from_torch(name, array, leaf.shape)
        if moved is None:
            raise UserError(
                f"{get_path(folder, network)}: has no array {theirs} that fits {CONFIG} beside it; "
                "export the model again"
            )
        return moved[0]

    step = reading.read_metadata(get_path(folder, "embedder")).get(_STEP, "0")
    if not step.isdecimal():
        raise UserError(f"{get_path(folder, 'embedder')}: its step {step!r} is no number")
    return jax.tree_util.tree_map_with_path(take, wanted), int(step)
