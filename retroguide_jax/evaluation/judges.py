"""Judges: held-out embedders, trained independently, that score a model's images."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from ml_collections import ConfigDict

from retroguide_jax.checkpoints.loading import load_model
from retroguide_jax.errors import UserError
from retroguide_jax.files import to_path
from retroguide_jax.inference import Model

EMBEDDER = "embedder"  # the model's own embedder as judge: the guide of its generator


class Judge(Protocol):
    """Interface of an embedder that scores images: an `inference.Model` or an equivalent.

    Attributes:
      config: its training config.
      step: the training step of its weights.
      variables: its weights.
    """

    config: ConfigDict
    step: int
    variables: Any

    def embed(self, images: np.ndarray, view: str) -> np.ndarray:
        """Embeddings [B, D] of images [B, H, W, 3] in [-1, 1] of "aerial" or "ground"."""
        ...


def name_judges(
    workdir: str | os.PathLike | None, judges: Iterable[str], flag: str = "--judge"
) -> dict[str, Path]:
    """Names each judge after the last part of its directory, numbered if that name is taken.

    Args:
      workdir: of the model to be scored, which cannot judge itself; None where folders are scored.
      judges: work directories.
      flag: the flag to name in errors.

    Raises:
      UserError: a judge is the model itself, or is given twice.
    """
    named: dict[str, Path] = {}
    seen = {}
    if workdir is not None:
        own = os.path.realpath(to_path(workdir))
        seen[own] = "is the model to be scored; give an independent embedder"
    for judge in judges:
        path = to_path(judge)
        place = os.path.realpath(path)
        if place in seen:
            raise UserError(f"{flag}={judge}: {seen[place]}")
        seen[place] = "is given twice; leave one out"
        base = os.path.basename(place) or "judge"
        taken = {EMBEDDER, *named}
        numbered = (f"{base}_{number}" for number in range(2, len(taken) + 3))
        name = next(name for name in (base, *numbered) if name not in taken)
        named[name] = path
    return named


def open_judges(
    judges: Mapping[str, Path], sizes: Mapping[str, tuple[int, int]]
) -> dict[str, Model]:
    """Loads judges and checks that they were trained on images of these sizes.

    The newest checkpoint of a judge is used, whichever checkpoint of the model it scores.

    Args:
      judges: name -> work directory.
      sizes: {view: (height, width)} of the images.

    Raises:
      UserError: a work directory cannot be used, or its embedder takes images of another size.
    """
    opened = {name: load_model(path) for name, path in judges.items()}
    for name, judge in opened.items():
        check_sizes(name, judge, sizes)
    return opened


def check_sizes(name: str, judge: Judge, sizes: Mapping[str, tuple[int, int]]) -> None:
    """Checks that a judge was trained on images of these sizes, {view: (height, width)}.

    Raises:
      UserError: it was trained on another size.
    """
    for view, given in sizes.items():
        judged = tuple(judge.config.data[f"{view}_size"])
        if judged != tuple(given):
            raise UserError(
                f"judge {name}: was trained with {view}_size {judged}, the images have "
                f"{tuple(given)}; train the judge on images of that size, or resize the images"
            )


def check_independent(name: str, columns: Mapping[str, np.ndarray]) -> None:
    """Rejects a copy of the model's own embedder, which the generator was optimised for.

    Args:
      name: of the judge.
      columns: see scoring.py.

    Raises:
      UserError: the judge gives the same embeddings as the model's own embedder.
    """
    own, judged = columns.get(f"real/{EMBEDDER}"), columns[f"real/{name}"]
    if name == EMBEDDER or own is None:
        return
    if own.shape == judged.shape and np.allclose(own, judged, atol=1e-4):
        raise UserError(
            f"judge {name}: is the model's own embedder; "
            "train one on its own, from another seed (--config=city_retrieval)"
        )
