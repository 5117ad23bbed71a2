"""Scores checkpoints of a work directory on its data set, or folders of images."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from retroguide_jax.checkpoints.loading import load_model
from retroguide_jax.data import listing
from retroguide_jax.data.catalog import open_dataset, open_gallery
from retroguide_jax.errors import UserError
from retroguide_jax.evaluation import layout_readers, protocol, results
from retroguide_jax.evaluation.compare import PER_IMAGE_DIR
from retroguide_jax.evaluation.examples import FolderExamples, ModelExamples
from retroguide_jax.evaluation.folders import match_folders
from retroguide_jax.evaluation.job import Job, Settings
from retroguide_jax.evaluation.judges import EMBEDDER, check_sizes, open_judges
from retroguide_jax.evaluation.resizing import parse_resize
from retroguide_jax.files import relate
from retroguide_jax.fingerprints import hash_config, hash_dataset, hash_weights
from retroguide_jax.parallel.processes import is_writer, writer_first
from retroguide_jax.provenance import describe_command, format_time


@dataclasses.dataclass(frozen=True)
class Target:
    """What to score of a work directory.

    Attributes:
      workdir: of a `retroguide train` run.
      judges: name -> work directory of an independent embedder.
      checkpoint: "latest" or "best".
      step: the checkpoint of this step instead.
      split: TFDS split; None for `config.data.test_split`.
      data_dir: folder of the data sets; None for TFDS's default.
      num_noises: images generated per source.
      max_examples: number of examples to score, from the start; all when None.
      all_tiles: search the gallery's further tiles too.
      save_images: a folder for the images as they were scored.
      per_image: a file for the scores of each image; None for one in WORKDIR/eval/per_image.
    """

    workdir: Path
    judges: Mapping[str, Path]
    checkpoint: str = "latest"
    step: int | None = None
    split: str | None = None
    data_dir: str | None = None
    num_noises: int = 3
    max_examples: int | None = None
    all_tiles: bool = False
    save_images: Path | None = None
    per_image: Path | None = None


class WorkdirJob:
    """Scores checkpoints of one work directory under one protocol."""

    def __init__(self, target: Target, settings: Settings):
        """Opens model, judges and data.

        Raises:
          UserError: the work directory, a judge or the data cannot be used.
        """
        self.target = target
        model = load_model(target.workdir, target.checkpoint, step=target.step)
        data_config = model.config.data
        sizes = {view: tuple(data_config[f"{view}_size"]) for view in ("aerial", "ground")}
        judges = open_judges(target.judges, sizes)
        split = target.split or data_config.test_split
        with writer_first("data set"):
            builder = open_dataset(data_config, target.data_dir)
            gallery = open_gallery(data_config, target.data_dir) if target.all_tiles else None
        layout_reader = layout_readers.open_if_needed(settings.metrics, model, builder, data_config)
        self.examples = ModelExamples(
            model,
            builder,
            data_config,
            split,
            num_noises=target.num_noises,
            seed=settings.seed,
            max_examples=target.max_examples,
            gallery=gallery,
            with_scene_layout=layout_reader is not None,
            save_images=target.save_images,
        )
        self.job = Job(settings, {EMBEDDER: model, **judges}, layout_reader)
        self.dataset = f"{data_config.name}/{data_config.config_name}"
        key = {
            "dataset": self.dataset,
            "data": hash_dataset(builder, split),
            "split": split,
            "num": self.examples.num,
            "sizes": {view: list(size) for view, size in sizes.items()},
            "gallery": "all" if gallery is not None else "pairs",
        }
        self.described = self.job.describe(key, num_noises=self.examples.num_noises)
        self.protocol_hash = protocol.hash_protocol(self.described)

    def use(self, step: int) -> None:
        """Loads the weights of another checkpoint.

        Raises:
          UserError: the checkpoint cannot be read.
        """
        load_model(self.target.workdir, step=step, into=self.examples.model)

    def score(self, progress_fn: Callable[[int, int], None] | None = None) -> dict[str, Any]:
        """Scores the weights in use; returns the row, and writes the per-image file.

        Raises:
          UserError: see `Job.score`.
        """
        model, target = self.examples.model, self.target
        row, per_image = self.job.score(self.examples, self.described, progress_fn)
        row = {
            "step": int(model.step),
            "split": self.examples.split,
            **row,
            "num_noises": self.examples.num_noises,
            "seed": self.examples.seed,
            "checkpoint": target.checkpoint,
            "dataset": self.dataset,
            "config": hash_config(model.config),
            "weights": hash_weights(model.variables)[:16],
            "judges": {
                name: {
                    "workdir": relate(path, target.workdir),
                    "step": int(self.job.judges[name].step),
                }
                for name, path in target.judges.items()
            },
            "time": format_time(),
            "command": describe_command(),
        }
        if is_writer():
            name = f"step_{row['step']:06d}_{self.protocol_hash}.csv"
            path = target.per_image or target.workdir / PER_IMAGE_DIR / name
            results.write_per_image(path, per_image, row)
        return row


def score_folders(
    folders: Mapping[str, str | None],
    judges: Mapping[str, Path],
    settings: Settings,
    *,
    direction: str = "a2g",
    resize: str | None = None,
    manifest: Path | None = None,
    names: Mapping[str, str] | None = None,
    num_samples: int = 1,
    progress_fn: Callable[[int, int], None] | None = None,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Scores a folder of generated images against one of real images.

    Args:
      folders: {"generated", "reference", "source", "sky_mask"} -> path; the last two may be None.
      judges: name -> work directory of an embedder, which must take images of these sizes.
      settings: of the job.
      direction: "a2g" (ground images were generated) or "g2a" (aerial images).
      resize: see `resizing.parse_resize`; None where sizes agree.
      manifest: text file of the ids to score, one per line.
      names: role -> pattern, see `match_folders`.
      num_samples: generated images per place, see `match_folders`.
      progress_fn: see `Scorer.score`.

    Returns:
      (row, columns of the per-image file); see `Job.score`.

    Raises:
      UserError: see `match_folders` and `Job.score`; or a judge takes images of another size.
    """
    opened = {name: load_model(path) for name, path in judges.items()}
    source_view, target_view = ("aerial", "ground") if direction == "a2g" else ("ground", "aerial")
    source_sizes = {tuple(j.config.data[f"{source_view}_size"]) for j in opened.values()}
    if folders["source"] and len(source_sizes) > 1:
        raise UserError(f"the judges take {source_view} images of different sizes; give one judge")
    pairs = match_folders(
        Path(folders["generated"]),  # pyright: ignore[reportArgumentType]
        Path(folders["reference"]),  # pyright: ignore[reportArgumentType]
        Path(folders["source"]) if folders["source"] else None,
        Path(folders["sky_mask"]) if folders["sky_mask"] else None,
        manifest,
        resize=parse_resize(resize) if resize else None,
        source_size=next(iter(source_sizes), None),
        names=names,
        num_samples=num_samples,
    )
    for name, judge in opened.items():
        check_sizes(name, judge, {target_view: pairs.size})
    job = Job(settings, opened)
    key = {
        "ids": listing.fingerprint_ids(pairs.ids),
        "num": len(pairs),
        "size": list(pairs.size),
        "resize": pairs.protocol,
    }
    described = job.describe(
        key, direction=direction, num_noises=num_samples, formats=dict(pairs.formats)
    )
    row, per_image = job.score(FolderExamples(pairs, direction), described, progress_fn)
    places = {name: str(path) for name, path in folders.items() if path}
    made = {"time": format_time(), "command": describe_command()}
    return {
        **places,
        **row,
        "notes": [*pairs.notes, *pairs.remarks.list_lines()],
        **made,
    }, per_image
