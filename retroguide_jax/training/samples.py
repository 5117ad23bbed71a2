"""The picture of a run's progress: source, real target, and what the generator makes of it."""

import numpy as np

from retroguide_jax.data.images import make_grid, to_float, to_uint8
from retroguide_jax.data.reading import read_pairs
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

    def draw(self, model: Model) -> np.ndarray:
        """A row a place, source | real target | generated under each noise: uint8 [H, W, 3]."""
        source = np.stack([to_float(pair[model.source_view]) for pair in self._pairs])
        noise = np.random.default_rng(0).standard_normal(
            (_NUM_NOISES, len(source), model.z_dim), np.float32
        )
        generated = [to_uint8(model.generate(source, z)) for z in noise]
        rows = [
            [pair[model.source_view], pair[model.target_view], *(images[i] for images in generated)]
            for i, pair in enumerate(self._pairs)
        ]
        return make_grid([_level(row) for row in rows], scale=2)


def _level(images: list[np.ndarray]) -> list[np.ndarray]:
    """Enlarges the lower images of a row by whole numbers, so that all stand about equally high."""
    height = max(image.shape[0] for image in images)
    factors = [height // image.shape[0] for image in images]
    return [image.repeat(n, 0).repeat(n, 1) for image, n in zip(images, factors, strict=True)]
