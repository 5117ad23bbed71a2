"""The TFDS builder of photographed pairs; each data set adds its folder layout."""

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from retroguide_jax.errors import UserError
from retroguide_jax.progress import make_bar, print_line
from retroguide_jax.text import find_nearest, make_printable

from . import checking, places, storing
from .listing import Box, Listing, Pair, Problem, assign_splits
from .workers import OrderedPool

_FEW = 50  # storing up to this many pairs takes less time than starting worker processes


@dataclasses.dataclass(eq=False, kw_only=True)
class PairsConfig(tfds.core.BuilderConfig):
    """Builder config of one folder of pairs: its listing and the recipe for storing it.

    Attributes:
      found: the listing of the folder.
      recipe: how the pairs are stored.
      allow_bad: leave unusable files out instead of stopping.
    """

    found: Listing = dataclasses.field(repr=False)
    recipe: storing.Recipe
    allow_bad: bool = False


def make_recipe(
    data_config,
    *,
    vertical_fov: float,
    aerial_aspect: float | None = None,
    ground_aspect: float | None = None,
    ground_box: Box | None = None,
    pads: bool = False,
) -> storing.Recipe:
    """The storage recipe that `config.data` describes.

    Args:
      data_config: `config.data`; aerial_size and ground_size are the minimum sizes of images and,
        with store_resized, the stored sizes.
      vertical_fov: vertical field of view of the complete ground images, degrees; a `ground_box`
        reduces it in proportion to its height.
      aerial_aspect, ground_aspect: width / height of the published files.
      ground_box: the part of every ground image to keep.
      pads: see `storing.Recipe`.
    """
    sizes = {"aerial": tuple(data_config.aerial_size), "ground": tuple(data_config.ground_size)}
    stored = sizes if data_config.store_resized else {"aerial": None, "ground": None}
    share = 1.0 if ground_box is None else ground_box.bottom - ground_box.top
    return storing.Recipe(
        aerial=storing.View(sizes["aerial"], stored["aerial"], None, aerial_aspect),
        ground=storing.View(sizes["ground"], stored["ground"], ground_box, ground_aspect),
        vertical_fov=vertical_fov * share,
        pads=pads,
        turns=bool(data_config.panorama),
    )


class PairsBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Stores pairs as ArrayRecord; sub-classes define the folder layout and the recipe.

    Features: id, aerial and ground (encoded), aerial_id, positives and semi_positives (aerial ids),
    position [2], heading and vertical_fov in degrees. See `listing.Pair`.
    """

    builder_config: PairsConfig
    VERSION = tfds.core.Version("1.1.0")
    RELEASE_NOTES = {
        "1.0.0": "First version.",
        "1.1.0": "Pairs of one aerial share its id; panoramas are turned by their heading.",
    }
    # Valid values of `config.data.config_name`, the default first; empty if there is only one.
    VARIANTS: tuple[str, ...] = ()
    # The `gallery.GalleryBuilder`, for data sets that may list tiles without a pair.
    GALLERY: "type[PairsBuilder] | None" = None

    @classmethod
    def list_raw(cls, data_config) -> Listing:
        """Lists the pairs in `config.data.raw_dir`.

        Raises:
          UserError: no folder layout was recognised, or a list is missing or cannot be read.
        """
        raise NotImplementedError

    @classmethod
    def make_recipe(cls, data_config) -> storing.Recipe:
        """The recipe for storing pairs under `config.data`."""
        raise NotImplementedError

    @classmethod
    def choose_variant(cls, data_config) -> str:
        """The variant named by config_name.

        Raises:
          UserError: no variant has that name.
        """
        name = data_config.config_name or (cls.VARIANTS[0] if cls.VARIANTS else "")
        if cls.VARIANTS and name not in cls.VARIANTS:
            nearest = find_nearest(name, cls.VARIANTS)
            hint = f"did you mean {nearest!r}? " if nearest else ""
            raise UserError(
                f"data set {data_config.name} has no config {name!r}; "
                f"{hint}there are {', '.join(variant or repr(variant) for variant in cls.VARIANTS)}"
            )
        return name

    @classmethod
    def make_config(cls, data_config) -> PairsConfig:
        """The builder config of `config.data`, named by a hash of all that its content depends on.

        Another folder, changed files or other sizes give another data set, never confused with an
        older copy: the hash covers the folder's path, the lists, every file's size and modification
        time, and the recipe.

        Raises:
          UserError: see `list_raw` and `choose_variant`.
        """
        variant = cls.choose_variant(data_config)
        found, recipe = cls.list_raw(data_config), cls.make_recipe(data_config)
        rules = [found.location, repr(recipe), bool(data_config.allow_bad)]
        text = json.dumps([*rules, found.compute_fingerprint()])
        digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
        label = variant or Path(found.location).stem
        slug = re.sub(r"[^a-z0-9]+", "_", label.lower()).strip("_")[:60] or "pairs"
        return PairsConfig(
            name=f"{slug}_{digest[:8]}",
            found=found,
            recipe=recipe,
            allow_bad=bool(data_config.allow_bad),
        )

    def _info(self) -> tfds.core.DatasetInfo:
        image = tfds.features.Image(shape=(None, None, 3))
        # dataset_info_from_configs would look for metadata files under the import path, which an
        # editable install maps elsewhere.
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "id": tfds.features.Text(),
                    "aerial": image,
                    "ground": image,
                    "aerial_id": tfds.features.Text(),
                    "positives": tfds.features.Sequence(tfds.features.Text()),
                    "semi_positives": tfds.features.Sequence(tfds.features.Text()),
                    # As bytes: TFDS stores numbers as float32, half a metre off for degrees.
                    "position": tfds.features.Tensor(
                        shape=(2,), dtype=np.float64, encoding=tfds.features.Encoding.BYTES
                    ),
                    "heading": tfds.features.Scalar(np.float32),
                    "vertical_fov": tfds.features.Scalar(np.float32),
                }
            ),
            description=make_printable(f"Pairs of {self.builder_config.found.location}"),
            # Without the photographs, the copy itself must show whether a gallery belongs to it.
            metadata=tfds.core.MetadataDict(num_tiles=len(self.builder_config.found.tiles)),
        )

    def download_and_prepare(self, *, num_workers: int | None = None, **kwargs) -> None:
        """Checks the files and writes the data set, unless it exists.

        Args:
          num_workers: processes; by default one per core this process may use. The result does not
            depend on it.
          **kwargs: passed to `tfds.core.DatasetBuilder.download_and_prepare`.
        """
        if num_workers is None:
            num_workers = min(len(os.sched_getaffinity(0)), 32)
        self._num_workers = num_workers
        with contextlib.ExitStack() as self._until_written:
            super().download_and_prepare(**kwargs)

    def _split_generators(self, dl_manager) -> dict:
        del dl_manager  # nothing is downloaded
        config = self.builder_config
        kept, problems = self._check()
        serious = [problem for problem in problems if problem.kind not in checking.MILD_KINDS]
        if serious:
            report_problems(serious, config)
        splits = self._assign_splits(kept)
        self._skipped = [problem for problem in problems if problem.kind != "flat"]
        num_outside = len(self._skipped) - len(serious)
        if num_outside:
            print_line(
                f"{num_outside} pairs left out: their crops leave the tile (in skipped.json)"
            )
        for note in checking.describe_flat(problems):
            print_line(f"note: {note}")
        num_pairs = sum(map(len, splits.values()))
        # Files stored unchanged are read here: workers would cost start-up time and copying.
        is_work = config.recipe.touches_pixels() or any(map(is_changed, config.found.pairs))
        pool = OrderedPool(self._num_workers if is_work and num_pairs > _FEW else 1)
        self._pool = self._until_written.enter_context(pool)
        bar = make_bar(total=num_pairs, desc="storing", unit=" pairs", delay=2)
        self._bar = self._until_written.enter_context(bar)
        last = list(splits)[-1]
        return {
            name: self._generate_examples(pairs, is_last=name == last)
            for name, pairs in splits.items()
        }

    # `GalleryBuilder`, which stores tiles instead of pairs, overrides these three members.

    def _check(self) -> tuple[list[Pair], list[Problem]]:
        config = self.builder_config
        return checking.check_listing(config.found, config.recipe, self._num_workers)

    def _assign_splits(self, kept: list[Pair]) -> dict[str, list[Pair]]:
        config, kept = self.builder_config, places.identify_places(kept)
        splits = assign_splits(kept, config.found.location)
        notes = [*config.found.notes, *checking.describe_headings(kept, config.recipe)]
        for note in notes + places.describe_places(kept):
            print_line(f"note: {note}")
        return splits

    _make_example = staticmethod(storing.make_example)

    def _generate_examples(self, pairs: list[Pair], *, is_last: bool) -> Iterator[tuple[str, dict]]:
        make = functools.partial(self._make_example, self.builder_config.recipe)
        for example in self._pool.map(make, pairs):
            self._bar.update()
            if isinstance(example, Problem):  # its header is intact, its pixels are damaged
                report_problems([example], self.builder_config)
                self._skipped.append(example)
            else:
                yield example["id"], example
        if is_last:
            # data_path is the temporary folder being built, so the list is renamed along with it.
            skipped = [dataclasses.asdict(problem) for problem in self._skipped]
            text = json.dumps(skipped, indent=2) + "\n"
            (Path(self.data_path) / "skipped.json").write_text(text)


def is_changed(pair: Pair) -> bool:
    """Whether an image of the pair is cropped from its file, or may be rotated."""
    return pair.aerial_box is not None or pair.ground_box is not None or pair.heading != 0


def report_problems(problems: list[Problem], config: PairsConfig) -> None:
    """Lists unusable files by name on stderr, and raises unless they are allowed.

    Raises:
      UserError: `config.allow_bad` is not set.
    """
    checking.print_problems(problems, print_line)
    first = f"{problems[0].path}: {problems[0].reason}"
    if not config.allow_bad:
        text = (
            f"{len(problems)} unusable in {config.found.location}, the first being {first}; mend "
        )
        raise UserError(
            f"{make_printable(text)}or remove what is listed, or leave it out with allow_bad "
            "(--config.data.allow_bad=True, or --allow_bad of `retroguide data`)"
        )
    print_line(f"left out: {len(problems)} (listed in skipped.json)")
