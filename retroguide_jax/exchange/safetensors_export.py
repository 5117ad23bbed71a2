"""Exports a trained model as .safetensors files, one per network, under PyTorch's names."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from retroguide_jax.checkpoints.reading import Reader
from retroguide_jax.checkpoints.saving import list_steps, split
from retroguide_jax.errors import UserError
from retroguide_jax.inference import Model
from retroguide_jax.parallel.mesh import make_mesh
from retroguide_jax.state import abstract_state
from retroguide_jax.torch_layout import folder


def export(model: Model, workdir: Path, output: Path, dtype: str = "float32") -> dict[str, str]:
    """Writes embedder.safetensors, and those of the generator and discriminator if there are any.

    Names are those of the weight layout `torch`, in PyTorch's order of axes; values are exact
    copies of those of the model. The discriminator is not averaged, and only checkpoints to resume
    from contain it: the best checkpoint may have none. Half precision is for inference: there the
    discriminator is left out.

    Args:
      model: the averaged weights; for float16 as `round_to_half` leaves them.
      workdir: the work directory that they come from.
      output: a folder.
      dtype: of the arrays in the files: float32 or float16.

    Returns:
      File name -> description.

    Raises:
      UserError: a file cannot be read or written.
    """
    further = _read_discriminator(model, workdir) if dtype == "float32" else {}
    written = {}
    networks = {**model.variables, **further}
    for network, arrays in folder.write_networks(networks, output, model.step, dtype).items():
        kind = "as trained" if network == "discriminator" else "averaged"
        num_values = sum(array.size for array in arrays.values())
        name = folder.get_path(output, network).name
        written[name] = f"{network}, {kind}: {len(arrays)} arrays, {num_values:,} {dtype}"
    return written


def round_to_half(model: Model) -> None:
    """Rounds a model's weights to half precision; they stay float32 arrays.

    Raises:
      UserError: a weight is too large for half precision.
    """

    def round_leaf(leaf: jax.Array) -> np.ndarray:
        with np.errstate(over="ignore"):
            half = np.asarray(leaf).astype(np.float16)
        if not np.isfinite(half).all():
            raise UserError("--dtype=float16: a weight is above 65,504; export as float32")
        return half.astype(np.float32)

    model.load(jax.tree.map(round_leaf, model.variables), model.step)


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
