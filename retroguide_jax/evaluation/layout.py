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

import contextlib
import dataclasses
import hashlib
import itertools
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tensorflow_datasets as tfds
from flax import traverse_util

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
from retroguide_jax.errors import UserError
from retroguide_jax.files import lock_folder, write_beside
from retroguide_jax.metric_nets.frozen import FrozenNet
from retroguide_jax.models.layout_reader import LayoutReader
from retroguide_jax.paths import is_in_bucket, to_path
from retroguide_jax.training.layout import LayoutRecipe, make_layout_reader, train_layout_reader

PAVED_GROUND = (ROAD, MARKING, PAVEMENT, KERB, PAVED)


def open_layout_reader(
    builder: tfds.core.DatasetBuilder,
    data_config,
    folder: str | os.PathLike,
    progress_fn: Callable[[int, int, Mapping[str, float]], None] | None = None,
    *,
    target_view: str = "ground",
    recipe: LayoutRecipe = LayoutRecipe(),  # noqa: B008, it is frozen
) -> FrozenNet:
    """Opens the layout reader kept in a folder, training it first where there is none.

    It is kept as layout_reader-FINGERPRINT.safetensors, with the fingerprint of data set, version,
    split, size, network and recipe: another of these is another file. Where several processes of a
    machine want it at once, one trains and the others wait for its file.

    Args:
      builder: a built data set with labels and depth (`catalog.open_dataset`).
      data_config: `config.data`: train_split, ground_size, aerial_size, num_threads.
      folder: where it is kept.
      progress_fn: of the training, see `train_layout_reader`.
      target_view: "ground" or "aerial": what the images to be read show.
      recipe: how it is trained.

    Returns:
      A network whose `apply(variables, images)` gives {"labels": uint8 [B, H, W], the likeliest
      class; "depth": float32 [B, H, W] in metres along the ray, meaningless in the sky} of uint8
      [B, H, W, 3].

    Raises:
      UserError: the data set has no labels, the target is not the panorama, the file is damaged or
        cannot be read or written, or as `train_layout_reader`.
    """
    if target_view != "ground":
        raise UserError(
            f"layout agreement reads panoramas, the target view is {target_view}; "
            "leave the metric layout out"
        )
    net = make_layout_reader(builder, data_config)
    path = to_path(folder) / f"layout_reader-{_hash_training(builder, data_config, net, recipe)}"
    path = path.with_name(f"{path.name}.safetensors")
    if not path.exists():
        _write(path, lambda: train_layout_reader(builder, data_config, recipe, progress_fn))
    variables, digest = _read(path, net, tuple(data_config.ground_size))

    def apply(variables: Any, images: jax.Array) -> dict[str, jax.Array]:
        logits, log_depth = net.apply(variables, images.astype(jnp.float32) / 127.5 - 1.0)
        return {"labels": logits.argmax(-1).astype(jnp.uint8), "depth": jnp.exp(log_depth)}

    protocol = f"uint8 / 127.5 - 1, no resize; trained on {builder.info.full_name}"
    return FrozenNet(
        "layout_reader", digest, f"{protocol} {data_config.train_split}", variables, apply
    )


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


def _hash_training(builder, data_config, net: LayoutReader, recipe: LayoutRecipe) -> str:
    settings = {
        "data": builder.info.full_name,
        "split": data_config.train_split,
        "size": list(data_config.ground_size),
        "network": {"num_classes": net.num_classes, "features": list(net.features)},
        "recipe": dataclasses.asdict(recipe),
    }
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def _write(path: Path, train_fn: Callable[[], Any]) -> None:
    from safetensors.numpy import save

    if is_in_bucket(path):
        data = save(traverse_util.flatten_dict(jax.device_get(train_fn()), sep="/"))
        with write_beside(path) as beside:
            beside.write_bytes(data)
        return
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    with contextlib.ExitStack() as stack:
        with _naming(path):
            stack.enter_context(lock_folder(path.parent))
            if path.exists():  # trained by another process while this one waited
                return
            stack.callback(beside.unlink, missing_ok=True)
            beside.touch()  # what cannot be written is better known before the training
        tensors = traverse_util.flatten_dict(jax.device_get(train_fn()), sep="/")
        # Where nothing is locked another may have been quicker: what it reads must not change.
        if not path.exists():
            with _naming(path):
                beside.write_bytes(save(tensors))
                os.replace(beside, path)


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror}; make its folder writable or free some space"
        ) from error


def _read(path: Path, net: LayoutReader, size: tuple[int, int]) -> tuple[Any, str]:
    """The variables in a file, checked against the network, and the digest of its bytes."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        data = path.read_bytes()
        tensors = load(data)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (SafetensorError, KeyError) as error:  # KeyError: a type that NumPy does not have
        raise UserError(f"{path} is damaged ({error}); delete it: it is trained again") from error
    example = jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)
    expected = jax.eval_shape(net.init, jax.random.key(0), example)
    if _describe(tensors) != _describe(traverse_util.flatten_dict(expected, sep="/")):
        raise UserError(f"{path} holds another network; delete it: it is trained again")
    return traverse_util.unflatten_dict(tensors, sep="/"), hashlib.sha256(data).hexdigest()


def _describe(tensors: Mapping[str, Any]) -> dict[str, tuple]:
    return {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}
