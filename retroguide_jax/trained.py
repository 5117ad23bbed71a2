"""A trained model for use from Python: what `rg.load` returns.

All checks of arguments are here. `inference.Model`, which this wraps, takes batches of the right
shape and trusts its caller; commands, which read and resize images themselves, use it directly.
"""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from retroguide_jax.checkpoints.loading import load_model
from retroguide_jax.checkpoints.saving import Checkpoints, Progress, list_steps
from retroguide_jax.data.images import to_uint8
from retroguide_jax.errors import UserError
from retroguide_jax.files import to_path
from retroguide_jax.inference import Model
from retroguide_jax.noise import draw_noise
from retroguide_jax.state import TrainState

_ROUNDING = 1e-3  # tolerance by which a float image may leave [-1, 1]


def load(
    workdir: str | Path, checkpoint: str = "latest", step: int | None = None
) -> "TrainedModel":
    """Loads the model of a work directory, local or `gs://...`, on all devices.

    Args:
      workdir: written by `retroguide train`, by `retroguide weights import` or `export`, or by
        `save`; "pretrained:NAME" for a packaged model.
      checkpoint: "latest" or "best".
      step: the checkpoint of this step; None for the newest.

    Raises:
      UserError: there is no such checkpoint, or it cannot be read.
    """
    return TrainedModel(load_model(workdir, checkpoint, step=step))


def save(workdir: str | Path, config: ConfigDict, state: TrainState) -> None:
    """Writes a training state as the newest checkpoint of a work directory, for `load`.

    Every command accepts the directory; `retroguide train` resumes from it at the first batch of
    the config's data set.

    Args:
      workdir: created if missing.
      config: the config that the state was made from.
      state: as `make_train_step`'s function returns it.

    Raises:
      UserError: it cannot be written, or holds a checkpoint of this step or a later one.
    """
    workdir = to_path(workdir)
    newest, step = max(list_steps(workdir), default=-1), int(state.step)
    if newest >= step:
        raise UserError(f"{workdir}: holds step {newest}, and this is step {step}; give another")
    checkpoints = Checkpoints(workdir, config)
    checkpoints.save(Progress(state))
    checkpoints.close()


class TrainedModel:
    """A generator with the embedder that guides it, for images as arrays.

    Images are [H, W, 3] or [B, H, W, 3], RGB, of exactly the model's size (`resize_image` resizes):
    uint8 in [0, 255], or float in [-1, 1], distinguished by their dtype.

    Attributes:
      compiled: the wrapped `inference.Model`, without checks, for batches and noise of your own.
      config: the run's config.
      step: the training step of the weights.
      direction: "a2g" (aerial to ground panorama) or "g2a".
      source_view, target_view: "aerial" and "ground", or the other way round.
      sizes: view -> (height, width) in pixels.
      has_generator: False for an embedder trained on its own.
    """

    def __init__(self, model: Model):
        self.compiled = model
        self.config, self.step = model.config, model.step
        self.direction: str = model.config.direction
        self.source_view, self.target_view = model.source_view, model.target_view
        self.sizes = dict(model.networks.sizes)
        self.has_generator = model.has_generator

    @property
    def source_size(self) -> tuple[int, int]:
        """Height and width in pixels of the images that `generate` takes."""
        return self.sizes[self.source_view]

    @property
    def target_size(self) -> tuple[int, int]:
        """Height and width in pixels of the images that `generate` returns."""
        return self.sizes[self.target_view]

    def __repr__(self) -> str:
        views = (
            f"{view} {self.sizes[view][0]}x{self.sizes[view][1]}"
            for view in (self.source_view, self.target_view)
        )
        kind = "" if self.has_generator else ", embedder only"
        return f"TrainedModel({' to '.join(views)}, step {self.step}{kind})"

    def generate(self, images: Any, seed: int = 0, num_samples: int = 1) -> np.ndarray:
        """Draws target images.

        Args:
          images: source images, one or a batch.
          seed: seed of the noise, 0 .. 2^31 - 1.
          num_samples: K images per source. Sample k has the same noise for every source, that of
            `retroguide generate --seed`: a result does not depend on the rest of the batch.

        Returns:
          [B, K, H', W', 3], without B for one image, in the range of `images`: uint8 for uint8,
          float32 in [-1, 1] for floats.

        Raises:
          UserError: images of another shape, dtype or range, an argument out of range, a model
            without a generator, or weights whose images are not finite.
        """
        _check_number("seed", seed, 0)
        _check_number("num_samples", num_samples, 1)
        batch = self._check_images(images, self.source_view)
        z = draw_noise(seed, num_samples, self.compiled.z_dim)

        def draw(rows: np.ndarray) -> np.ndarray:
            drawn = self.compiled.generate(batch[rows // num_samples], z[rows % num_samples])
            if not np.isfinite(drawn).all():
                raise UserError("the generated images are not finite; use an earlier checkpoint")
            return to_uint8(drawn) if batch.dtype == np.uint8 else drawn

        drawn = self._in_parts(draw, len(batch) * num_samples)
        shape = (num_samples, *drawn.shape[1:])
        return drawn.reshape(shape if np.ndim(images) == 3 else (len(batch), *shape))

    def embed(self, images: Any, view: str) -> np.ndarray:
        """Embeds images of either view, so that the two views of a place are near each other.

        Args:
          images: one or a batch.
          view: what they show, "aerial" or "ground".

        Returns:
          float32 [B, D], without B for one image, of length 1: the product of two is their cosine
          similarity.

        Raises:
          UserError: images of another shape, dtype or range, or no such view.
        """
        if view not in self.sizes:
            raise UserError(f"view={view!r}: must be 'aerial' or 'ground'")
        batch = self._check_images(images, view)
        rows = self._in_parts(lambda rows: self.compiled.embed(batch[rows], view), len(batch))
        return rows[0] if np.ndim(images) == 3 else rows

    def _in_parts(self, fn: Callable[[np.ndarray], np.ndarray], num_rows: int) -> np.ndarray:
        """Joins fn(numbers of rows) over all rows, so that few batch sizes are compiled.

        A part has `config.eval.batch_size` rows per device, or the next power of two where there
        are fewer rows; the last part is padded with copies of the last row.
        """
        most = self.config.eval.batch_size * self.compiled.devices.num_devices
        size = min(most, 1 << (num_rows - 1).bit_length())
        parts = [
            fn(np.minimum(np.arange(first, first + size), num_rows - 1))
            for first in range(0, num_rows, size)
        ]
        return np.concatenate(parts)[:num_rows]

    def _check_images(self, images: Any, view: str) -> np.ndarray:
        """The images as a batch [B, H, W, 3], uint8 or float32."""
        try:
            batch = np.asarray(images)
        except ValueError as error:  # a list of unequal images
            raise UserError("images: differ in size; resize them to one") from error
        batch = batch[None] if batch.ndim == 3 else batch
        size = self.sizes[view]
        if batch.ndim != 4 or batch.shape[1:] != (*size, 3):
            hint = ""
            if batch.ndim == 4 and batch.shape[-1] == 3:
                hint = f"; `rg.resize_image(image, {size})` resizes one"
            elif batch.ndim == 4 and batch.shape[1] == 3:
                hint = "; channels come last"
            raise UserError(
                f"images: of shape {np.shape(images)}; this model's {view} images are "
                f"[{size[0]}, {size[1]}, 3], one or a batch{hint}"
            )
        if not len(batch):
            raise UserError("images: an empty batch; give at least one image")
        if batch.dtype == np.uint8:
            return batch
        _check_range(batch)
        return batch.astype(np.float32)


def _check_range(batch: np.ndarray) -> None:
    if not jnp.issubdtype(batch.dtype, jnp.floating):
        raise UserError(
            f"images: of dtype {batch.dtype}; give uint8 in [0, 255] or float in [-1, 1]"
        )
    low, high = float(batch.min()), float(batch.max())
    if not (low >= -1 - _ROUNDING and high <= 1 + _ROUNDING):
        raise UserError(
            f"images: float values from {low:.4g} to {high:.4g}; give float in [-1, 1], or uint8 "
            "in [0, 255]"
        )
    if low >= 0 and low < high:
        warnings.warn(
            f"images: float values from {low:.4g} to {high:.4g}, and [-1, 1] is expected; if "
            "they are scaled to [0, 1], give 2 * images - 1",
            stacklevel=4,
        )


def _check_number(name: str, value: int, low: int) -> None:
    if not isinstance(value, (int, np.integer)) or not low <= value < 2**31:
        raise UserError(f"{name}={value!r}: give a whole number of at least {low}, below 2^31")
