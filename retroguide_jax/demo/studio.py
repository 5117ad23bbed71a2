"""From the bytes of a source image to generated images and retrieved entries."""

from typing import NamedTuple

import numpy as np

from retroguide_jax.data import images
from retroguide_jax.demo.gallery import Found, Gallery
from retroguide_jax.errors import UserError
from retroguide_jax.inference import Model
from retroguide_jax.noise import draw_noise

NUM_PICTURES = 6


class Drawn(NamedTuple):
    """The results for one source image.

    source: uint8 [H, W, 3], as the model sees it.
    pictures: uint8 [K, H', W', 3], generated with the noise of samples 0 .. K - 1.
    found: the most similar entries of the gallery; None without a gallery.
    """

    source: np.ndarray
    pictures: np.ndarray
    found: list[Found] | None


class Studio:
    """A model that draws K = NUM_PICTURES pictures at a time, so that it compiles once."""

    def __init__(self, model: Model, gallery: Gallery | None):
        self._model, self._gallery = model, gallery

    def warm_up(self) -> None:
        """Compiles every program that `draw` will run.

        Raises:
          UserError: the checkpoint holds no generator, or its images are not finite.
        """
        self._draw(np.zeros((*self._model.source_size, 3), np.uint8), seed=0)

    def draw(self, encoded: bytes, seed: int, name: str) -> Drawn:
        """Draws what `retroguide generate --seed --num_samples=K --batch_size=K` would.

        Args:
          encoded: an image file of any of `images.READABLE_FORMATS`.
          seed: of the noise, 0 .. 2^31 - 1.
          name: what errors call the image.

        Raises:
          UnreadableImageError: `encoded` is no such file.
          UserError: the model's images are not finite, or the index is damaged.
        """
        size = self._model.source_size
        source = images.decode_image(encoded, size, name=name, formats=images.READABLE_FORMATS)
        return self._draw(source, seed)

    def _draw(self, source: np.ndarray, seed: int) -> Drawn:
        sources = np.stack([source] * NUM_PICTURES)
        noise = draw_noise(seed, NUM_PICTURES, self._model.z_dim)
        generated = np.asarray(self._model.generate(sources, noise), np.float32)
        if not np.all(np.isfinite(generated)):
            raise UserError("the generated images are not finite; use an earlier checkpoint")
        pictures = images.to_uint8(generated)
        found = self._gallery.find(source, pictures[0]) if self._gallery else None
        return Drawn(source, pictures, found)
