"""Imports PyTorch weight files into a work directory at step 0."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from retroguide_jax.checkpoints.saving import Checkpoints, Progress
from retroguide_jax.config import config_to_json
from retroguide_jax.errors import UserError
from retroguide_jax.evaluation.results import write_json
from retroguide_jax.exchange import saig, timm_convnext, twin
from retroguide_jax.exchange.matching import Match, match
from retroguide_jax.exchange.weight_layouts import Source
from retroguide_jax.files import write_beside
from retroguide_jax.networks import make_networks
from retroguide_jax.parallel.mesh import make_mesh
from retroguide_jax.state import create_state
from retroguide_jax.torch_layout import variables
from retroguide_jax.weights import files, reading

LAYOUTS: dict[str, Callable[[Mapping[str, np.ndarray]], Source]] = {
    "torch": twin.open_source,
    "timm-convnext": timm_convnext.open_source,
    "saig": saig.open_source,
}
RECORD = "imported.json"  # in the work directory: the provenance of its weights


@dataclasses.dataclass(frozen=True)
class WeightMapping:
    """The mapping from weight files to a config's networks; nothing is written yet.

    Attributes:
      origins: {path: SHA-256} of the files.
      weight_layout: a key of `LAYOUTS`.
      note: known differences in outputs in spite of equal weights.
      match: which array of the files becomes which of ours.
    """

    origins: Mapping[str, str]
    weight_layout: str
    note: str
    match: Match

    def check(self) -> None:
        """Raises UserError if an array is missing, or left over without permission."""
        try:
            self.match.check()
        except UserError as error:
            raise UserError(f"{', '.join(self.origins)}: {error}") from None

    def to_json(self) -> dict[str, Any]:
        """The report as a tree of JSON types."""
        return {
            "files": dict(self.origins),
            "layout": self.weight_layout,
            "note": self.note,
            "arrays": [dataclasses.asdict(row) for row in self.match.rows],
            "initialised": list(self.match.kept),
            "missing": dict(self.match.missing),
            "left_over": list(self.match.leftover),
        }


def map_weights(
    config: ConfigDict,
    weight_layout: str,
    paths: Sequence[Path],
    only: Sequence[str] = (),
    allow_leftover: Sequence[str] = (),
    entry: str = "",
) -> WeightMapping:
    """Reads weight files and maps their arrays to the config's networks; initialises nothing.

    Args:
      config: config of the networks.
      weight_layout: a key of `LAYOUTS`.
      paths: the files, whose arrays are pooled.
      only, allow_leftover: see `matching.match`.
      entry: see `reading.read_arrays`.

    Raises:
      UserError: see `reading.read_arrays`, `open_source` of the weight layout, and
        `matching.match`; or an array is in two files.
    """
    arrays: dict[str, np.ndarray] = {}
    for path in paths:
        found = reading.read_arrays(path, entry)
        if twice := sorted(arrays.keys() & found.keys()):
            raise UserError(f"{path}: {twice[0]} is in another of the files too; name one of them")
        arrays |= found
    shapes = variables.list_shapes(config)
    try:
        source = LAYOUTS[weight_layout](arrays)
    except UserError as error:
        raise UserError(f"{paths[0]}: {error}") from None
    origins = {str(path): files.compute_sha256(path) for path in paths}
    return WeightMapping(
        origins, weight_layout, source.note, match(source, shapes, only, allow_leftover)
    )


def write_workdir(config: ConfigDict, mapping: WeightMapping, workdir: Path) -> None:
    """Writes a work directory at step 0, with the imported weights as both trained and averaged.

    Arrays that the mapping does not import are initialised from `config.seed`.

    Args:
      config: config of the run that may continue from it.
      mapping: the mapping, for which `WeightMapping.check` has passed.
      workdir: a new or empty folder.

    Raises:
      UserError: the folder is not empty, or the files cannot be written.
    """
    if workdir.exists() and (not workdir.is_dir() or any(workdir.iterdir())):
        raise UserError(f"{workdir}: is not empty; nothing is written over: name a new folder")
    # Checkpoints do not depend on the mesh, and the config's mesh need not fit these devices.
    mesh = make_mesh({}, jax.devices()[:1])
    state = create_state(config, make_networks(config), mesh)
    networks = variables.replace(variables.get_networks(state), mapping.match.arrays)
    checkpoints = Checkpoints(workdir, config)
    checkpoints.save(Progress(variables.put_networks(state, networks)))
    checkpoints.close()
    with write_beside(workdir / "config.json") as beside:
        beside.write_text(config_to_json(config))
    write_json(workdir / RECORD, mapping.to_json())
