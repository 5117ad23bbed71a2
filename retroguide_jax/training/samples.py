"""The picture of a run's progress: source, real target, and what the generator makes of it."""

from pathlib import Path

import numpy as np

from retroguide_jax.data.images import make_grid, to_float, to_uint8, write_png
from retroguide_jax.data.pipeline import read_pairs
from retroguide_jax.inference import Model

_NUM_ROWS = 8
_NUM_NOISES = 3


class SampleGrid:
    """The same few validation places and noises every time, so that pictures can be compared.

    Args:
      builder: a built data set.
      data_config: `config.data`; the first pairs of its validation split are used.
    """

    def __init__(self, builder, data_config):
        self._pairs = read_pairs(builder, data_config, data_config.val_split, _NUM_ROWS)

    def save(self, model: Model, path: Path) -> None:
        """Writes a PNG: a row a place with source | real target | generated under each noise."""
        source = np.stack([to_float(pair[model.source_view]) for pair in self._pairs])
        noise = np.random.default_rng(0).standard_normal(
            (_NUM_NOISES, len(source), model.z_dim), np.float32
        )
        generated = [to_uint8(model.generate(source, z)) for z in noise]
        rows = [
            [pair[model.source_view], pair[model.target_view], *(images[i] for images in generated)]
            for i, pair in enumerate(self._pairs)
        ]
        write_png(path, make_grid(rows, scale=2))
