"""What is scored: the pairs of a data set with the images that a model draws for them."""

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import jax
import numpy as np
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from retroguide_jax.data.identity import name_places
from retroguide_jax.data.images import to_uint8, write_png
from retroguide_jax.data.pipeline import iterate_batches, iterate_tiles
from retroguide_jax.data.reading import num_examples
from retroguide_jax.errors import UserError
from retroguide_jax.evaluation.folders import FolderPairs
from retroguide_jax.inference import Model
from retroguide_jax.noise import draw_noises

_MAX_MEAN_IMAGE_EXAMPLES = 2048


class Examples(Protocol):
    """Images to score with what belongs to them: a split of a data set, or folders.

    Attributes:
      num: how many examples there are.
      num_noises: how many images were generated for each.
      has_generated, has_source: whether there are generated images, and images of the other view.
      source_view, target_view: "aerial" and "ground", or the reverse.
      mean_image: uint8 [1, H, W, 3], the mean training target; None where there is none.
    """

    num: int
    num_noises: int
    has_generated: bool
    has_source: bool
    source_view: str
    target_view: str
    mean_image: np.ndarray | None

    def iterate(self, num_rows: int) -> Iterator[dict[str, np.ndarray]]:
        """This process's batches of `num_rows` examples; every process gets equally many.

        Yields:
          {"mask": bool [B], false for filling; "index": int64 [B]; "id", "aerial_id", "positives",
          "semi_positives": str [B] as `pipeline.iterate_batches` gives them; "source": uint8
          [B, H, W, 3]; "target": uint8 [B, H', W', 3]; "samples": uint8 [K, B, H', W', 3]} and,
          where stored and of the target, "sky_mask", "labels", "depth".

        Raises:
          UserError: an image cannot be read, or a generated one is not finite.
        """

    def iterate_tiles(self, num_rows: int) -> Iterator[dict[str, np.ndarray]]:
        """This process's batches of the gallery's further tiles: {"id", "mask", "source"}."""


@dataclasses.dataclass
class ModelExamples:
    """A split of a data set, with K images of each source by a model.

    Attributes:
      model: an `inference.Model`; without a generator (mode contrastive) nothing is drawn.
      builder: the data set, a TFDS builder.
      data_config: `config.data` of the model.
      split: TFDS split, such as "test" or "test[:100]".
      num_noises: K.
      seed: of the noise, which is a function of (seed, position in the split, number of the noise).
      max_examples: only the first so many examples of the split; all when None.
      gallery: a builder of further gallery tiles (`catalog.open_gallery`), or None.
      with_layout: read labels and depth too.
      save_images: a folder that receives what is scored, see `save_batch`; None for nothing.
      with_mean_image: also score the mean training target, which takes a pass over that split.
    """

    model: Model
    builder: tfds.core.DatasetBuilder
    data_config: ConfigDict
    split: str
    num_noises: int = 1
    seed: int = 0
    max_examples: int | None = None
    gallery: tfds.core.DatasetBuilder | None = None
    with_layout: bool = False
    save_images: Path | None = None
    with_mean_image: bool = True

    def __post_init__(self):
        total = num_examples(self.builder, self.split)
        self.num = total if self.max_examples is None else min(total, self.max_examples)
        self.source_view, self.target_view = self.model.source_view, self.model.target_view
        self.has_generated, self.has_source = self.model.has_generator, True
        self.num_noises = self.num_noises if self.has_generated else 0

    def iterate(self, num_rows: int) -> Iterator[dict[str, np.ndarray]]:
        """See `Examples.iterate`."""
        num_processes = jax.process_count()
        batches = iterate_batches(
            self.builder,
            self.data_config,
            self.split,
            batch_size=num_rows * num_processes,
            process_index=jax.process_index(),
            process_count=num_processes,
            with_layout=self.with_layout,
        )
        for batch in itertools.islice(batches, -(-self.num // (num_rows * num_processes))):
            kept = {"mask": batch["mask"] & (batch["index"] < self.num)}
            kept["source"] = batch[self.source_view]
            kept["target"] = batch[self.target_view]
            for name in ("index", "id", "aerial_id", "positives", "semi_positives"):
                kept[name] = batch[name]
            if self.target_view == "ground":  # what these were made for
                names = ("sky_mask", "labels", "depth")
                kept |= {name: batch[name] for name in names if name in batch}
            if self.has_generated:
                noise = draw_noises(self.seed, batch["index"], self.num_noises, self.model.z_dim)
                kept["samples"] = np.stack([self._draw(kept["source"], z) for z in noise])
            if self.save_images is not None:
                save_batch(self.save_images, kept)
            yield kept

    def _draw(self, source: np.ndarray, z: np.ndarray) -> np.ndarray:
        images = np.asarray(self.model.generate(source, z), np.float32)
        # Rounding turns a NaN into an ordinary colour, after which nobody would notice.
        if not np.all(np.isfinite(images)):
            raise UserError(
                "the generator gives images that are not finite; "
                "the model has diverged: evaluate an earlier checkpoint"
            )
        # Scored as they are written to PNG.
        return to_uint8(images)

    def iterate_tiles(self, num_rows: int) -> Iterator[dict[str, np.ndarray]]:
        """See `Examples.iterate_tiles`."""
        if self.gallery is None:
            return
        num_processes = jax.process_count()
        for batch in iterate_tiles(
            self.gallery,
            self.data_config,
            num_rows * num_processes,
            process_index=jax.process_index(),
            process_count=num_processes,
        ):
            yield {"id": batch["id"], "mask": batch["mask"], "source": batch["aerial"]}

    @functools.cached_property
    def mean_image(self) -> np.ndarray | None:
        """The mean of the first 2,048 targets of the training split."""
        if not self.with_mean_image:
            return None
        split = self.data_config.train_split
        total = min(num_examples(self.builder, split), _MAX_MEAN_IMAGE_EXAMPLES)
        size = min(64, total)
        batches = iterate_batches(self.builder, self.data_config, split, batch_size=size)
        image_sum, num_images = 0.0, 0
        for batch in itertools.islice(batches, -(-total // size)):
            rows = np.flatnonzero(batch["mask"])[: total - num_images]
            image_sum = image_sum + np.sum(batch[self.target_view][rows], axis=0, dtype=np.float64)
            num_images += len(rows)
        return np.rint(image_sum / num_images).astype(np.uint8)[None]


def save_batch(folder: Path, batch: Mapping[str, np.ndarray]) -> None:
    """Writes a batch as PNG files that `--generated`, `--reference` and other tools can read.

    FOLDER/{source,reference,sky_mask,generated,generated_1,...}/ID.png; generated_k is noise k.

    Raises:
      UserError: a file cannot be written, or an id leads out of the folder.
    """
    kinds = {"source": batch["source"], "reference": batch["target"]}
    for k, images in enumerate(batch.get("samples", ())):
        kinds[f"generated_{k}" if k else "generated"] = images
    if "sky_mask" in batch:
        kinds["sky_mask"] = batch["sky_mask"].astype(np.uint8) * 255
    root = folder.resolve()
    for row in np.flatnonzero(batch["mask"]):
        for kind, images in kinds.items():
            path = root / kind / f"{batch['id'][row]}.png"
            if not path.resolve().is_relative_to(root / kind):
                raise UserError(f"{batch['id'][row]!r}: this name leads out of {folder}")
            write_png(path, images[row])


@dataclasses.dataclass
class FolderExamples:
    """Anyone's images: generated files beside reference files of the same names.

    Attributes:
      pairs: a `folders.FolderPairs`.
      direction: "a2g" or "g2a": what the generated images are, for judges.
    """

    pairs: FolderPairs
    direction: str = "a2g"

    has_generated, mean_image = True, None

    def __post_init__(self):
        self.num_noises = self.pairs.num_samples
        views = ("aerial", "ground")
        self.source_view, self.target_view = views if self.direction == "a2g" else views[::-1]
        self.num, self.has_source = len(self.pairs), self.pairs.has_source
        files = self.pairs.paths
        by_view = {self.source_view: files.get("source"), self.target_view: files["reference"]}
        self._aerial_ids, self._positives = name_places(
            self.pairs.ids, by_view["aerial"], by_view["ground"]
        )
        # Neighbours are each other's shuffled floor; neighbouring names may be frames of one drive.
        self._order = np.random.default_rng(0).permutation(self.num)

    def iterate(self, num_rows: int) -> Iterator[dict[str, np.ndarray]]:
        """See `Examples.iterate`; a sample is a "noise"."""
        roles = ["generated", *(f"generated_{k}" for k in range(1, self.num_noises))]
        starts = range(num_rows * jax.process_index(), self.num, num_rows * jax.process_count())
        positions = [np.arange(first, first + num_rows) for first in starts]
        indices = [self._order[np.minimum(rows, self.num - 1)] for rows in positions]
        for rows, index, read in zip(positions, indices, self.pairs.read(indices), strict=True):
            ids = np.array([self.pairs.ids[i] for i in index])
            batch = {
                "mask": rows < self.num,
                "index": np.minimum(rows, self.num - 1),
                "id": ids,
                "aerial_id": self._aerial_ids[index],
                "positives": self._positives[index],
                "semi_positives": np.full(len(ids), ""),
                "target": read["reference"],
                "samples": np.stack([read[role] for role in roles]),
            }
            if self.has_source:
                batch["source"] = read["source"]
            if "sky_mask" in read:
                batch["sky_mask"] = read["sky_mask"]
            yield batch

    def iterate_tiles(self, num_rows: int) -> Iterator[dict[str, np.ndarray]]:
        """Nothing: folders have no further tiles."""
        del num_rows
        return iter(())
