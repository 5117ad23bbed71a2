"""Loads a trained model from a work directory, or from the folder of an export."""

from pathlib import Path

from retroguide_jax.checkpoints.integrity import (
    DamagedCheckpointError,
    make_damage_error,
    report_damage,
)
from retroguide_jax.checkpoints.reading import Reader
from retroguide_jax.checkpoints.saving import MODEL_KEYS
from retroguide_jax.config import complete_config, config_from_json
from retroguide_jax.errors import UserError
from retroguide_jax.files import to_path
from retroguide_jax.inference import Model
from retroguide_jax.networks import make_networks
from retroguide_jax.parallel.mesh import count_slices, make_mesh
from retroguide_jax.parallel.processes import is_writer
from retroguide_jax.progress import print_line
from retroguide_jax.state import abstract_state
from retroguide_jax.torch_layout import folder

_FOLDERS = {"latest": "checkpoints", "best": "best"}


def load_model(
    workdir: str | Path,
    checkpoint: str = "latest",
    *,
    step: int | None = None,
    into: Model | None = None,
) -> Model:
    """Loads a work directory's model on all devices; every process must call this.

    If the newest checkpoint is damaged, the one before it is used, with a warning on stderr.

    Args:
      workdir: work directory of a `retroguide train` run, or a folder that `retroguide weights
        export` wrote, which holds one checkpoint, the latest.
      checkpoint: "latest" or "best".
      step: the checkpoint of this step and no other; None for the newest.
      into: a model of the same config that receives the weights; its compiled functions are reused.

    Raises:
      UserError: there is no such checkpoint, or it cannot be read.
    """
    if checkpoint not in _FOLDERS:
        raise UserError(f"checkpoint={checkpoint!r}: must be 'latest' or 'best'")
    workdir = to_path(workdir)
    if folder.is_model_folder(workdir):
        return _load_export(workdir, checkpoint, step, into)
    reader = _open(workdir, checkpoint)
    steps = reader.find_steps() if step is None else [step]
    if not steps:
        raise UserError(f"{reader.folder}: holds no checkpoint yet")
    damage = []
    for number in steps:
        try:
            model = _load(reader, number, into)
        except DamagedCheckpointError as error:
            if step is not None:
                raise
            report_damage(error)
            damage.append(error)
            continue
        if damage and is_writer():
            print_line(f"warning: using {reader.folder / str(number)} instead")
        return model
    raise make_damage_error(damage)


def _load(reader: Reader, step: int, into: Model | None) -> Model:
    meta = reader.read_meta(step)
    config = complete_config(meta["config"])
    model = into or Model(config, make_networks(config))
    # The run's own mesh need not fit these devices.
    mesh = make_mesh({"slice": count_slices(), "data": -1})
    abstract = abstract_state(config, model.networks, mesh)
    wanted = {key: getattr(abstract, key) for key in MODEL_KEYS}
    restored = reader.read_items(step, meta, model=wanted)["model"]
    model.load(restored["ema"], int(restored["step"]))
    return model


def _open(workdir: Path, which: str) -> Reader:
    checkpoints = workdir / _FOLDERS[which]
    if not workdir.is_dir():
        raise UserError(f"{workdir}: no such work directory; train one with `retroguide train`")
    if not checkpoints.is_dir():
        raise UserError(f"{workdir}: has no {which} checkpoint ({checkpoints.name}/ is missing)")
    return Reader(checkpoints)


def _load_export(workdir: Path, which: str, step: int | None, into: Model | None) -> Model:
    config = complete_config(config_from_json((workdir / folder.CONFIG).read_text()))
    model = into or Model(config, make_networks(config))
    averages, found = folder.read_networks(workdir, config, model.networks)
    if which != "latest" or step not in (None, found):
        wanted = which if step is None else f"step {step}"
        raise UserError(f"{workdir}: an export holds one checkpoint: step {found}, not {wanted}")
    model.load(averages, found)
    return model
