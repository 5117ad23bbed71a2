"""Layout agreement: does a panorama show the scene layout of the real place?

A small network, trained once on real panoramas of the training split, predicts the class labels and
the depth of an image; these scores compare its predictions on a generated image with the true ones,
stored with the data set. They lie between a ceiling, the predictions on the real image, and a
floor, those on the image of another place. A protocol of this project: it needs rendered ground
truth, so it exists for procedural_city only and compares runs on the same variant.

The network also predicts what it expects to see. The average of all training panoramas shows no
place, and agrees better than a sharp panorama of a wrong place (labels on city_64: 59 % against
47 %). It is a second floor, and a reason to report these scores together with retrieval and
sharpness.
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
    """Scores predicted labels and depth against the true ones.

    Args:
      read: predictions of a layout reader: {"labels": [B, H, W], "depth": [B, H, W] in metres}.
      labels: uint8 [B, H, W], classes of procedural_city.
      depth: uint16 [B, H, W] as procedural_city stores it: centimetres, 65535 in the sky.

    Returns:
      {"label_agreement", "mean_iou", "skyline_error", "depth_error"}, float32 [B] each.
    """
    return _score_layout(read["labels"], read["depth"], labels, depth)


def compare_noises(read: Sequence[jax.Array]) -> jax.Array:
    """Mean label agreement between the images of two noises of one source, float32 [B].

    1 when the noise does not change the scene layout. The network makes other errors on each image,
    so its label agreement on real images is about the highest score to expect.

    Args:
      read: K >= 2 arrays uint8 [B, H, W], the labels predicted for the images of noise k.
    """
    pairs = itertools.combinations(read, 2)
    return jnp.mean(jnp.stack([label_agreement(a, b) for a, b in pairs]), axis=0)


def mask_surfaces(labels: np.ndarray) -> dict[str, np.ndarray]:
    """Masks of surfaces whose colour noise may change: name -> bool [B, H, W], by labels [B, H, W].

    "light" is the paved ground, of similar materials everywhere: its colour is that of the light.
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
    an entire set, here per image. A class of one pixel weighs as much as the sky.

    Args:
      read, true: integer [B, H, W], 0 .. num_classes - 1.
      num_classes: number of classes.
    """
    classes = jnp.arange(num_classes)[:, None, None, None]
    is_read, is_true = read == classes, true == classes
    both = jnp.sum(is_read & is_true, axis=(2, 3))
    either = jnp.sum(is_read | is_true, axis=(2, 3))
    return jnp.mean(both / jnp.maximum(either, 1), axis=0, where=jnp.any(is_true, axis=(2, 3)))


def skyline_error(read: jax.Array, true: jax.Array) -> jax.Array:
    """Mean error of the skyline, float32 [B], in heights of the image, in [0, 1].

    mean over columns of |s(read) - s(true)| / H with s the number of rows from the top before the
    first that is not sky, H in a column of sky alone.

    Args:
      read, true: integer [B, H, W], classes of procedural_city.
    """
    distance = jnp.abs(_find_skyline(read) - _find_skyline(true))
    return jnp.mean(distance, axis=1, dtype=jnp.float32) / read.shape[1]


def depth_error(read: jax.Array, true: jax.Array) -> jax.Array:
    """Mean |ln read - ln true| over the pixels that are not sky in `true`, float32 [B].

    The mean absolute log error of Saxena et al. ("Make3D", 2009), natural logarithm: 0.1 is some
    10 % of the distance. NaN for an image of sky alone.

    Args:
      read: float [B, H, W], metres, positive.
      true: uint16 [B, H, W], centimetres as procedural_city stores them, 65535 in the sky.
    """
    # No render has a depth of 0, but its logarithm would make the mean of the image infinite.
    metres = jnp.maximum(true.astype(jnp.float32), 1.0) / 100.0
    error = jnp.abs(jnp.log(read) - jnp.log(metres))
    return jnp.mean(error, axis=(1, 2), where=true < SKY_DEPTH)


def _find_skyline(labels: jax.Array) -> jax.Array:
    """Rows of sky above the first pixel of another class in each column, int32 [B, W]."""
    return jnp.sum(jnp.cumprod(labels == SKY, axis=1, dtype=jnp.int32), axis=1)
