"""Opens the layout reader of a data set from a folder; trains it first if it is missing."""

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import tensorflow_datasets as tfds
from flax import traverse_util

from retroguide_jax.data.reading import get_features
from retroguide_jax.errors import UserError
from retroguide_jax.evaluation.layout_reader_training import (
    LayoutRecipe,
    make_layout_reader,
    train_layout_reader,
)
from retroguide_jax.files import is_in_bucket, lock_folder, to_path, write_beside
from retroguide_jax.inference import Model
from retroguide_jax.metric_nets.frozen import FrozenNet
from retroguide_jax.models.layout_reader import LayoutReader
from retroguide_jax.parallel.processes import is_writer, writer_first
from retroguide_jax.progress import follow, make_bar


def open_if_needed(
    metrics: Collection[str], model: Model, builder: tfds.core.DatasetBuilder, data_config
) -> FrozenNet | None:
    """Opens the layout reader stored next to a model's data set; trains it first if it is missing.

    Args:
      metrics: names of the registry.
      model: an `inference.Model`.
      builder: the built data set.
      data_config: `config.data`.

    Returns:
      None where the metric `layout` is not requested or not available: it needs a generator of
      ground images and a data set with labels.

    Raises:
      UserError: see `open_layout_reader`.
    """
    has_labels = "labels" in get_features(builder) and model.target_view == "ground"
    if "layout" not in metrics or not has_labels or not model.has_generator:
        return None
    title = "layout reader, once per data set"
    with (
        writer_first("layout_reader"),
        make_bar(desc=title, unit="step", delay=1, shown=is_writer()) as bar,
    ):

        def show(step: int, num_steps: int, losses: Mapping[str, float]) -> None:
            texts = {name: f"{value:.3f}" for name, value in losses.items()}
            bar.set_postfix(texts, refresh=False)
            follow(bar)(step, num_steps)

        return open_layout_reader(builder, data_config, to_path(builder.data_path).parent, show)


def open_layout_reader(
    builder: tfds.core.DatasetBuilder,
    data_config,
    folder: str | os.PathLike,
    progress_fn: Callable[[int, int, Mapping[str, float]], None] | None = None,
    *,
    target_view: str = "ground",
    recipe: LayoutRecipe = LayoutRecipe(),  # noqa: B008, it is frozen
) -> FrozenNet:
    """Opens the layout reader stored in a folder; trains it first if it is missing.

    Its file is layout_reader-FINGERPRINT.safetensors, with the fingerprint of data set, version,
    split, size, network and recipe: a change of any of these leads to a new file. When several
    processes on a machine need it at the same time, one trains and the others wait for its file.

    Args:
      builder: a built data set with labels and depth (`catalog.open_dataset`).
      data_config: `config.data`: train_split, ground_size, aerial_size, num_threads.
      folder: of the file.
      progress_fn: of the training, see `train_layout_reader`.
      target_view: "ground" or "aerial", the view of the images to read.
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
        read: Any = net.apply(variables, images.astype(jnp.float32) / 127.5 - 1.0)
        logits, log_depth = read
        return {"labels": logits.argmax(-1).astype(jnp.uint8), "depth": jnp.exp(log_depth)}

    protocol = f"uint8 / 127.5 - 1, no resize; trained on {builder.info.full_name}"
    return FrozenNet(
        "layout_reader", digest, f"{protocol} {data_config.train_split}", variables, apply
    )


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
        data = save(traverse_util.flatten_dict(jax.device_get(train_fn()), sep="/"))  # pyright: ignore[reportArgumentType]
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
            beside.touch()  # fails before the training if the folder is not writable
        tensors = traverse_util.flatten_dict(jax.device_get(train_fn()), sep="/")
        # Without a lock another process may have written the file: do not change what it reads.
        if not path.exists():
            with _naming(path):
                beside.write_bytes(save(tensors))  # pyright: ignore[reportArgumentType]
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
