"""Embeds images as unit rows, batch by batch, while the next batch is decoded."""

import collections
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from retroguide_jax.data import images
from retroguide_jax.data.remarks import Remarks
from retroguide_jax.errors import UserError
from retroguide_jax.fingerprints import hash_weights
from retroguide_jax.inference import Model
from retroguide_jax.metrics.products import split_range
from retroguide_jax.retrieval.entries import Entry
from retroguide_jax.retrieval.index import Index

_BATCHES_AHEAD = 2


class Embedded(NamedTuple):
    """The embeddings of a batch of images, B of which could be read.

    entries: of these B images.
    rows: float32 [B, D], unit rows.
    unreadable: one error message per image that could not be read.
    """

    entries: list[Entry]
    rows: np.ndarray
    unreadable: list[images.UnreadableImageError]


def embed_pictures(
    model: Model,
    pictures: Sequence[tuple[Entry, Path | bytes]],
    view: str,
    batch_size: int,
    remarks: Remarks | None = None,
) -> Iterator[Embedded]:
    """Embeds images of any size, each resized to the model's (bicubic, as in training).

    Args:
      model: its embedder is used.
      pictures: entries with their encoded images (`pictures.list_files`, `pictures.Examples`).
      view: what they show, "aerial" or "ground".
      batch_size: images at a time; the model compiles once, for this number.
      remarks: collects remarks on the images that the user should see.

    Raises:
      UserError: an embedding is not finite; a data set's record cannot be read.
    """
    size = model.networks.sizes[view]

    def load(number: int) -> tuple[Entry, np.ndarray | images.UnreadableImageError]:
        entry, encoded = pictures[number]
        name = entry.id if isinstance(encoded, bytes) else ""
        try:
            picture = images.read_image(encoded, size, name=name, formats=images.READABLE_FORMATS)
            if remarks is not None:
                remarks.add(entry.path or entry.id, picture)
            return entry, picture.pixels
        except images.UnreadableImageError as error:
            return entry, error

    waiting: collections.deque[list[Future]] = collections.deque()
    pool = ThreadPoolExecutor()
    try:
        for part in split_range(len(pictures), batch_size):
            waiting.append([pool.submit(load, number) for number in range(part.start, part.stop)])
            if len(waiting) > _BATCHES_AHEAD:
                yield _embed(model, _collect(waiting), view, batch_size)
        while waiting:
            yield _embed(model, _collect(waiting), view, batch_size)
    finally:
        pool.shutdown(cancel_futures=True)


def check_weights(index: Index, model: Model) -> None:
    """Checks that a model's embeddings may be compared with those of an index.

    Raises:
      UserError: another embedder made the index.
    """
    if hash_weights(model.variables["embedder"]) != index.about.weights:
        about = index.about
        raise UserError(
            f"{index.path}: was made by step {about.step} of {about.workdir}; this embedder (step "
            f"{model.step}) has other weights: give that work directory, or make the index again"
        )


def _collect(waiting: collections.deque[list[Future]]) -> list[tuple]:
    return [future.result() for future in waiting.popleft()]


def _embed(model: Model, loaded: list[tuple], view: str, batch_size: int) -> Embedded:
    unreadable = [image for _, image in loaded if isinstance(image, images.UnreadableImageError)]
    good = [(entry, image) for entry, image in loaded if isinstance(image, np.ndarray)]
    if not good:
        return Embedded([], np.empty((0, 0), np.float32), unreadable)
    pixels = np.stack([image for _, image in good])
    padded = np.concatenate([pixels, pixels[-1:].repeat(batch_size - len(pixels), axis=0)])
    rows = np.asarray(model.embed(padded, view), np.float32)[: len(good)]
    if not np.all(np.isfinite(rows)):
        raise UserError("the embeddings are not finite; use an earlier checkpoint")
    return Embedded([entry for entry, _ in good], rows, unreadable)
