"""The model card of an export: what the model is, where it comes from, how well it does."""

from collections.abc import Mapping
from pathlib import Path

from retroguide_jax.inference import Model

NAME = "README.md"


def write_card(model: Model, workdir: Path, output: Path, files: Mapping[str, str]) -> None:
    """Writes `output`/README.md and config.json.

    Args:
      model: the exported weights.
      workdir: where they come from.
      output: the folder of the export.
      files: what lies in it: file name -> what it holds.
    """
    raise NotImplementedError
