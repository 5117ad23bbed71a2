"""Exports a trained model as .safetensors files, one per network, under PyTorch's names."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from retroguide_jax.checkpoints.reading import Reader
from retroguide_jax.checkpoints.saving import list_steps, split
from retroguide_jax.exchange import axes, twin, variables
from retroguide_jax.inference import Model
from retroguide_jax.parallel.mesh import make_mesh
from retroguide_jax.state import abstract_state
from retroguide_jax.weights import reading


def export(model: Model, workdir: Path, output: Path) -> dict[str, str]:
    """Writes embedder.safetensors, and those of the generator and discriminator if there are any.

    Names are those of the weight layout `torch`, in PyTorch's order of axes; values are bit-exact
    copies of those in the work directory. The discriminator is not averaged, and only checkpoints
    to resume from contain it: the best checkpoint may have none.

    Args:
      model: the averaged weights.
      workdir: the work directory that they come from.
      output: a folder.

    Returns:
      File name -> description.

    Raises:
      UserError: a file cannot be read or written.
    """
    networks = {**model.variables, **_read_discriminator(model, workdir)}
    written = {}
    for network, arrays in _to_torch(networks).items():
        name = f"{network}.safetensors"
        reading.write_arrays(output / name, arrays, "")
        kind = "as trained" if network == "discriminator" else "averaged"
        num_values = sum(array.size for array in arrays.values())
        written[name] = f"{network}, {kind}: {len(arrays)} arrays, {num_values:,} float32"
    return written


def _to_torch(networks: Mapping[str, Any]) -> dict[str, dict[str, np.ndarray]]:
    """Network -> PyTorch's name -> array."""
    named: dict[str, dict[str, np.ndarray]] = {network: {} for network in networks}
    for name, leaf in variables.flatten(networks).items():
        network, _, path = name.partition("/")
        named[network][twin.name_parameter(path)] = axes.to_torch(name, np.asarray(leaf))
    return named


def _read_discriminator(model: Model, workdir: Path) -> dict[str, Any]:
    """{"discriminator": its parameters at the model's step}; {} if no checkpoint contains it."""
    if not model.has_generator or model.step not in list_steps(workdir):
        return {}
    reader = Reader(workdir / "checkpoints")
    meta = reader.read_meta(model.step)
    abstract = abstract_state(model.config, model.networks, make_mesh({}, jax.devices()[:1]))
    # The checksum is that of all the rest of the state.
    restored = reader.read_items(model.step, meta, trainer=split(abstract)[1])["trainer"]
    return {"discriminator": restored["params"]["discriminator"]}
