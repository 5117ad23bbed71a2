"""Scoring anyone's images: folders matched by name, through the same job as a model's own."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from retroguide_jax.errors import UserError
from retroguide_jax.evaluation import listing
from retroguide_jax.evaluation.examples import FolderExamples
from retroguide_jax.evaluation.folders import FolderPairs, match_folders
from retroguide_jax.evaluation.job import Job, Settings, check_sizes
from retroguide_jax.evaluation.resizing import parse_resize
from retroguide_jax.origin import describe_command, format_time
from retroguide_jax.training.loading import load_model


def score_folders(
    folders: Mapping[str, str | None],
    judges: Mapping[str, Path],
    settings: Settings,
    *,
    direction: str = "a2g",
    resize: str | None = None,
    manifest: Path | None = None,
    progress_fn: Callable[[int, int], None] | None = None,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Scores a folder of generated images against one of real images.

    Args:
      folders: {"generated", "reference", "source", "sky_mask"} -> path; the last two may be None.
      judges: name -> work directory of an embedder, which must take images of these sizes.
      settings: of the job.
      direction: "a2g" or "g2a", what was generated.
      resize: see `resizing.parse_resize`; None where sizes agree.
      manifest: text file of the ids to score, one a line.
      progress_fn: see `Scorer.score`.

    Returns:
      (row, columns of one line an image); see `Job.score`.

    Raises:
      UserError: see `match_folders` and `Job.score`; or a judge takes images of another size.
    """
    opened = {name: load_model(path) for name, path in judges.items()}
    source_view, target_view = ("aerial", "ground") if direction == "a2g" else ("ground", "aerial")
    source_sizes = {tuple(j.config.data[f"{source_view}_size"]) for j in opened.values()}
    if folders["source"] and len(source_sizes) > 1:
        raise UserError(f"the judges take {source_view} images of different sizes; give one judge")
    pairs = match_folders(
        Path(folders["generated"]),
        Path(folders["reference"]),
        Path(folders["source"]) if folders["source"] else None,
        Path(folders["sky_mask"]) if folders["sky_mask"] else None,
        manifest,
        resize=parse_resize(resize) if resize else None,
        source_size=next(iter(source_sizes), None),
    )
    for name, judge in opened.items():
        check_sizes(name, judge, {target_view: pairs.size})
    job = Job(settings, opened)
    key = {
        "ids": listing.fingerprint_ids(pairs.ids),
        "num": len(pairs),
        "size": list(pairs.size),
        "resize": pairs.protocol,
        "reference": _hash_files(pairs),
    }
    described = job.describe(key, direction=direction, num_noises=1)
    row, per_image = job.score(FolderExamples(pairs, direction), described, progress_fn)
    places = {name: str(path) for name, path in folders.items() if path}
    made = {"time": format_time(), "command": describe_command()}
    return {**places, **row, **made}, per_image


def _hash_files(pairs: FolderPairs) -> str:
    """Of the reference files' names and sizes, so that statistics of other files are not reused."""
    sizes = (path.stat().st_size for path in pairs.paths["reference"])
    facts = (f"{name} {size}" for name, size in zip(pairs.ids, sizes, strict=True))
    return listing.fingerprint_ids(facts)
