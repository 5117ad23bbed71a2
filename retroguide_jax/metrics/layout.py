"""Layout agreement: is what a panorama shows laid out as the real place is?

A small network, trained once on real panoramas of the training split, reads class labels and depth
off an image; these figures compare what it reads off a generated one with the true ones, stored
with the data set. Between the ceiling, what it reads off the real image, and the floor, what it
reads off the image of another place. A protocol of this project: it needs rendered ground truth, so
it exists for procedural_city only and compares runs on the same variant.

A network also reads what it expects to see. The average of all training panoramas is no place at
all, and agrees better than a sharp panorama of a wrong place (labels on city_64: 59 % against
47 %): a second floor, and a reason to read these figures beside retrieval and sharpness.
"""

import itertools
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from retroguide_jax.datasets.procedural_city.materials import (
    BUILDING,
    KERB,
    MARKING,
    NAMES,
    PAVED,
    PAVEMENT,
    ROAD,
    SKY,
)
from retroguide_jax.datasets.procedural_city.pairs import SKY_DEPTH

PAVED_GROUND = (ROAD, MARKING, PAVEMENT, KERB, PAVED)


def score_layout(
    read: Mapping[str, jax.Array], labels: jax.Array, depth: jax.Array
) -> dict[str, jax.Array]:
    """All figures of what was read against what is true.

    Args:
      read: what a layout reader gives: {"labels": [B, H, W], "depth": [B, H, W] in metres}.
      labels: uint8 [B, H, W], classes of procedural_city.
      depth: uint16 [B, H, W] as procedural_city stores it: centimetres, 65535 in the sky.

    Returns:
      {"label_agreement", "mean_iou", "skyline_error", "depth_error"}, float32 [B] each.
    """
    return _score_layout(read["labels"], read["depth"], labels, depth)


def compare_noises(read: Sequence[jax.Array]) -> jax.Array:
    """Mean label agreement between what two noises of one source show, float32 [B].

    1 when the noise leaves the layout alone. A network that reads labels errs on each image in a
    way of its own, so what it scores on real images is about as much as can be asked.

    Args:
      read: K >= 2 times uint8 [B, H, W], the labels read off the images of noise k.
    """
    pairs = itertools.combinations(read, 2)
    return jnp.mean(jnp.stack([label_agreement(a, b) for a, b in pairs]), axis=0)


def mask_surfaces(labels: np.ndarray) -> dict[str, np.ndarray]:
    """Where an image shows what noise may colour: bool [B, H, W] by name, of labels [B, H, W].

    "light" is the paved ground, of much the same materials everywhere: its colour is the light's.
    """
    return {"light": np.isin(labels, PAVED_GROUND), "facade": labels == BUILDING}


@jax.jit
def _score_layout(read_labels, read_depth, labels, depth) -> dict[str, jax.Array]:
    return {
        "label_agreement": label_agreement(read_labels, labels),
        "mean_iou": mean_iou(read_labels, labels, len(NAMES)),
        "skyline_error": skyline_error(read_labels, labels),
        "depth_error": depth_error(read_depth, depth),
    }


def label_agreement(read: jax.Array, true: jax.Array) -> jax.Array:
    """Pixel accuracy: the share of pixels whose classes are equal, float32 [B], in [0, 1].

    Long et al., "Fully convolutional networks for semantic segmentation", 2015, per image.

    Args:
      read, true: integer [B, H, W].
    """
    return jnp.mean(read == true, axis=(1, 2), dtype=jnp.float32)


def mean_iou(read: jax.Array, true: jax.Array, num_classes: int) -> jax.Array:
    """Mean intersection over union, float32 [B], in [0, 1].

    mean over the classes c present in the true labels of the image of
    |read = c and true = c| / |read = c or true = c|: the formula of Long et al. (2015), there over
    a whole set, here per image. A class of one pixel weighs as much as the sky.

    Args:
      read, true: integer [B, H, W], 0 .. num_classes - 1.
      num_classes: how many there are.
    """
    classes = jnp.arange(num_classes)[:, None, None, None]
    is_read, is_true = read == classes, true == classes
    both = jnp.sum(is_read & is_true, axis=(2, 3))
    either = jnp.sum(is_read | is_true, axis=(2, 3))
    return jnp.mean(both / jnp.maximum(either, 1), axis=0, where=jnp.any(is_true, axis=(2, 3)))


def skyline_error(read: jax.Array, true: jax.Array) -> jax.Array:
    """How far the skyline is off, float32 [B], in heights of the image, in [0, 1].

    mean over columns of |s(read) - s(true)| / H with s the number of rows from the top before the
    first that is not sky, H in a column of sky alone.

    Args:
      read, true: integer [B, H, W], classes of procedural_city.
    """
    distance = jnp.abs(_find_skyline(read) - _find_skyline(true))
    return jnp.mean(distance, axis=1, dtype=jnp.float32) / read.shape[1]


def depth_error(read: jax.Array, true: jax.Array) -> jax.Array:
    """Mean |ln read - ln true| over the pixels that are not truly sky, float32 [B].

    The mean absolute log error of Saxena et al. ("Make3D", 2009), natural logarithm: 0.1 is some
    10 % of the distance. NaN for an image of sky alone.

    Args:
      read: float [B, H, W], metres, positive.
      true: uint16 [B, H, W], centimetres as procedural_city stores them, 65535 in the sky.
    """
    # No render has a depth of 0, but a logarithm of it would spoil every other pixel's mean.
    metres = jnp.maximum(true.astype(jnp.float32), 1.0) / 100.0
    error = jnp.abs(jnp.log(read) - jnp.log(metres))
    return jnp.mean(error, axis=(1, 2), where=true < SKY_DEPTH)


def _find_skyline(labels: jax.Array) -> jax.Array:
    """int32 [B, W]: rows of sky above the first pixel that is none."""
    return jnp.sum(jnp.cumprod(labels == SKY, axis=1, dtype=jnp.int32), axis=1)
