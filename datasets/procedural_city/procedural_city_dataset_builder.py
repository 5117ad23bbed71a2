"""TFDS builder of `procedural_city`: pairs of one place rendered from a procedural 3-D city."""

import contextlib
import dataclasses
import functools
import os

import numpy as np
import tensorflow_datasets as tfds
from etils import epath
from tensorflow_datasets.core.utils import tqdm_utils

from retroguide_jax.progress import make_bar

from ..common.workers import OrderedPool
from . import materials
from .pairs import SPLITS, Split, View, render_pair


@dataclasses.dataclass(kw_only=True)
class CityConfig(tfds.core.BuilderConfig):
    """Sizes of one variant.

    Attributes:
      view: image sizes, field of view and raster resolution.
      num_pairs: pairs in train, test and test_cross.
    """

    view: View
    num_pairs: tuple[int, int, int]


_VIEW_64 = View(aerial_size=64, ground_size=(32, 128), vertical_fov=90.0, cell_size=0.25)
_VIEW_128 = View(aerial_size=128, ground_size=(64, 256), vertical_fov=90.0, cell_size=0.25)
_VIEW_256 = View(aerial_size=256, ground_size=(128, 512), vertical_fov=180.0, cell_size=0.15)


class Builder(tfds.core.GeneratorBasedBuilder):
    """Aerial image and 360-degree panorama of one place, with depth, labels and sky mask."""

    # TFDS would look for README.md under the import path, which an editable install maps elsewhere.
    pkg_dir_path = epath.Path(__file__).parent
    builder_config: CityConfig
    VERSION = tfds.core.Version("1.1.0")
    RELEASE_NOTES = {
        "1.0.0": "First version.",
        "1.1.0": "camera is stored as float64; it was rounded to float32.",
    }
    BUILDER_CONFIGS = [
        CityConfig(
            name="city_64",
            description="Aerial 64x64, panorama 32x128, vertical field of view 90 degrees.",
            view=_VIEW_64,
            num_pairs=(4096, 512, 512),
        ),
        CityConfig(
            name="city_128",
            description="Aerial 128x128, panorama 64x256, vertical field of view 90 degrees.",
            view=_VIEW_128,
            num_pairs=(4096, 512, 512),
        ),
        CityConfig(
            name="city_256",
            description="Aerial 256x256, panorama 128x512, vertical field of view 180 degrees.",
            view=_VIEW_256,
            num_pairs=(8192, 1024, 1024),
        ),
        CityConfig(
            name="city_smoke",
            description="The first few pairs of city_64, for tests.",
            view=_VIEW_64,
            num_pairs=(64, 16, 16),
        ),
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        view = self.builder_config.view
        rows, columns = view.ground_size
        image = functools.partial(tfds.features.Image, encoding_format="png")
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "id": tfds.features.Text(),
                    "aerial": image(shape=(view.aerial_size, view.aerial_size, 3)),
                    "ground": image(shape=(rows, columns, 3)),
                    # A tensor rather than a PNG, because TFDS cannot decode 16 bits with Pillow.
                    "depth": tfds.features.Tensor(
                        shape=(rows, columns, 1), dtype=np.uint16, encoding="zlib"
                    ),
                    "labels": image(shape=(rows, columns, 1)),
                    "sky_mask": image(shape=(rows, columns, 1)),
                    "weather": tfds.features.Text(),
                    "seed": tfds.features.Scalar(np.int64),
                    # As bytes: TFDS stores numbers as float32, hundreds of metres off here.
                    "camera": tfds.features.Tensor(
                        shape=(3,), dtype=np.float64, encoding=tfds.features.Encoding.BYTES
                    ),
                }
            ),
            supervised_keys=("aerial", "ground"),
            metadata=tfds.core.MetadataDict(label_names=list(materials.NAMES)),
            # Keeps the order of generation, so that example i is tile i.
            disable_shuffling=True,
        )

    def download_and_prepare(self, *, num_workers: int | None = None, **kwargs) -> None:
        """Renders and writes the data set unless it exists.

        Args:
          num_workers: rendering processes; by default one per core this process may use. The
            result does not depend on it.
          **kwargs: passed to `tfds.core.DatasetBuilder.download_and_prepare`.
        """
        if num_workers is None:
            num_workers = min(len(os.sched_getaffinity(0)), 32)
        with OrderedPool(num_workers) as self._pool, _own_bar(self.builder_config) as self._bar:
            super().download_and_prepare(**kwargs)

    def _split_generators(self, dl_manager):
        del dl_manager  # Nothing to download.
        return {
            split.name: self._generate_examples(split, num_pairs)
            for split, num_pairs in zip(SPLITS, self.builder_config.num_pairs, strict=True)
        }

    def _generate_examples(self, split: Split, num_pairs: int):
        render = functools.partial(render_pair, self.builder_config.view, split)
        # TFDS sorts by key in memory, one bucket of the 128-bit key range at a time: evenly spread
        # keys keep its memory small.
        pitch = 2**128 // num_pairs
        for tile, example in enumerate(self._pool.map(render, range(num_pairs))):
            yield tile * pitch, example
            self._bar.update()


@contextlib.contextmanager
def _own_bar(config: CityConfig):
    """Shows one bar over all splits instead of TFDS's nested ones, which do not know the totals."""
    were_shown = tqdm_utils._active
    tqdm_utils.disable_progress_bar()
    try:
        with make_bar(
            total=sum(config.num_pairs), desc=f"rendering {config.name}", unit="pair"
        ) as bar:
            yield bar
    finally:
        tqdm_utils.display_progress_bar(were_shown)
