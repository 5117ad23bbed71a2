"""From a work directory to a model that can be used."""

from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp

from retroguide_jax.errors import UserError
from retroguide_jax.inference import Model
from retroguide_jax.networks import make_networks
from retroguide_jax.parallel.mesh import count_slices, make_mesh
from retroguide_jax.training import checkpoints
from retroguide_jax.training.state import abstract_state


def load_model(
    workdir: str | Path,
    checkpoint: str = "latest",
    *,
    step: int | None = None,
    into: Model | None = None,
) -> Model:
    """Loads a work directory's model on all devices.

    Args:
      workdir: of a `retroguide train` run.
      checkpoint: "latest" or "best".
      step: this one instead of the newest.
      into: a model of the same config to give the weights to: its compiled functions serve again.

    Raises:
      UserError: there is no such checkpoint, or it cannot be read.
    """
    manager, newest = open_for_reading(Path(workdir), checkpoint)
    step = newest if step is None else step
    config = checkpoints.read_meta(manager, step)["config"]
    model = into or Model(config, make_networks(config))
    abstract = abstract_state(config, model.networks, make_mesh({"slice": count_slices(), "data": -1}))
    restored: dict[str, Any] = restore_model(manager, step, abstract)
    model.load(restored["ema"], int(restored["step"]))
    return model


def open_for_reading(workdir: Path, which: str) -> tuple[ocp.CheckpointManager, int]:
    """The manager and step of the `latest` or `best` checkpoint of a work directory.

    Raises:
      UserError: there is none.
    """
    checkpoints.hush_orbax()
    folder = workdir.absolute() / {"latest": "checkpoints", "best": "best"}[which]
    if not workdir.is_dir():
        raise UserError(f"{workdir}: no such work directory; train one with `retroguide train`")
    if not folder.is_dir():
        raise UserError(f"{workdir}: has no {which} checkpoint ({folder.name}/ is missing)")
    manager = ocp.CheckpointManager(folder, options=ocp.CheckpointManagerOptions(read_only=True))
    step = manager.latest_step()
    if step is None:
        raise UserError(f"{folder}: holds no checkpoint yet")
    return manager, step


def restore_model(manager: ocp.CheckpointManager, step: int, abstract: dict) -> dict[str, Any]:
    """The `model` item {"step", "ema"}, placed as `abstract` says.

    Raises:
      UserError: damaged, or not of this shape.
    """
    model = ocp.args.StandardRestore({key: abstract[key] for key in checkpoints.MODEL_KEYS})
    return checkpoints.read_items(manager, step, ocp.args.Composite(model=model))["model"]
