"""From a built data set to batches of images: training and evaluation iterators.

Both are Grain pipelines over TFDS's random-access ArrayRecord source. They use threads, not worker
processes: Pillow and NumPy release the interpreter lock, start-up is instant, and the iterator's
state is a single number, so that resuming is exact.
"""

import os
from collections.abc import Callable, Iterator
from typing import Any

import grain
import numpy as np
import tensorflow_datasets as tfds
from absl import flags

from retroguide_jax.data import images
from retroguide_jax.data.augment import AugmentPair
from retroguide_jax.data.reading import (
    DecodedPairs,
    PairDecoder,
    Source,
    get_id,
    open_source,
    read_ids,
)
from retroguide_jax.errors import UserError

_MOST_THREADS = 16


def make_train_iterator(
    builder: tfds.core.DatasetBuilder,
    data_config,
    *,
    batch_size: int,
    seed: int,
    process_index: int = 0,
    process_count: int = 1,
) -> grain.DatasetIterator:
    """Returns an endless, resumable iterator of shuffled, augmented training batches.

    The stream is a function of (data, `batch_size`, `seed`) alone: the processes' batches,
    concatenated, are the batch that a single process would have drawn, so a run does not depend on
    the number of processes. Each pass over the data is shuffled again and drops the remainder that
    does not fill a batch (different examples in each pass), so that no batch holds a pair twice;
    only a split smaller than `batch_size` repeats within a batch. Pairs of the same place (k
    panoramas of one aerial) may occur in one batch: "place" marks them, so that losses can mask
    them.

    Args:
      builder: a built data set (`catalog.open_dataset`).
      data_config: `config.data`: train_split, aerial_size, ground_size, augment, panorama,
        num_threads.
      batch_size: examples per step over all processes.
      seed: 0 .. 2**32 - 1; determines order and augmentation.
      process_index: this process, 0 .. process_count - 1.
      process_count: processes that share each batch.

    Returns:
      An iterator of {"aerial": uint8 `[b, Ha, Wa, 3]`; "ground": uint8 `[b, Hg, Wg, 3]`; "place":
      int32 `[b]`, equal for pairs of the same place (`reading.hash_place`)} with b = batch_size /
      process_count; `get_state` and `set_state` resume exactly. The training step converts pixels
      to float on the devices: uint8 takes a quarter of the memory and of the transfer to them.

    Raises:
      UserError: the split is unknown or has fewer examples than there are processes, or
        `batch_size` is not a multiple of `process_count`.
    """
    local_batch_size = _local_batch_size(batch_size, process_count)
    source = open_source(builder, data_config.train_split, also=("aerial_id", "positives"))
    if len(source) < process_count:
        raise UserError(
            f"split {data_config.train_split!r} has {len(source)} examples for {process_count} "
            "processes; use fewer processes or more data"
        )
    dataset = _shuffle(DecodedPairs(source, data_config), batch_size, seed)
    if data_config.augment:
        dataset = dataset.random_map(AugmentPair(_can_rotate(data_config)))
    # Slicing batches rather than examples preserves the global order: batch g of process p is rows
    # p b .. (p + 1) b of global batch g. No process decodes examples of another.
    dataset = dataset.batch(local_batch_size, drop_remainder=True)
    return iter(_prefetch(dataset[process_index::process_count], data_config))


def get_position(iterator: grain.DatasetIterator) -> int:
    """The number of global batches that a training iterator has yielded its share of.

    With batch size and seed this is the complete state of a stream, on any number of processes.
    """
    return iterator.get_state()["next_index"]


def set_position(iterator: grain.DatasetIterator, position: int) -> None:
    """Makes a training iterator resume after the first `position` global batches."""
    iterator.set_state({"next_index": position})


def read_batch_ids(
    builder: tfds.core.DatasetBuilder, data_config, *, batch_size: int, seed: int, number: int
) -> list[str]:
    """Returns the ids of one global training batch, in its order; decodes no image.

    Args:
      builder: a built data set (`catalog.open_dataset`).
      data_config: `config.data`, see `make_train_iterator`.
      batch_size: examples per step over all processes.
      seed: seed of the stream.
      number: index of the batch, from 0; at position `number` it is the next one drawn.

    Raises:
      UserError: the split is unknown, or a record cannot be read.
    """
    dataset: Any = _shuffle(open_source(builder, data_config.train_split), batch_size, seed)
    first = number * batch_size
    return [get_id(dataset[index]) for index in range(first, first + batch_size)]


def iterate_batches(
    builder: tfds.core.DatasetBuilder,
    data_config,
    split: str,
    *,
    batch_size: int,
    process_index: int = 0,
    process_count: int = 1,
    with_scene_layout: bool = False,
) -> Iterator[dict[str, np.ndarray]]:
    """Iterates once over a split in its stored order, without augmentation.

    Every process gets the same number of batches of the same shape, so that collectives match: the
    last batch is padded with copies of the last example, which are masked out.

    Args:
      builder: a built data set (`catalog.open_dataset`).
      data_config: `config.data`, see `make_train_iterator`.
      split: a TFDS split, "test" or "train[:100]".
      batch_size: examples per batch over all processes.
      process_index: this process, 0 .. process_count - 1.
      process_count: processes that share each batch.
      with_scene_layout: also yield "labels" and "depth", if the data set stores them.

    Returns:
      An iterator of {"aerial", "ground": uint8 `[b, H, W, 3]`, "mask": bool `[b]`, false for
      padding, "index": int64 `[b]`, the position in the split, "id": str `[b]`, "aerial_id": str
      `[b]`, the pair's own id if the data set stores none, "positives" and "semi_positives": str
      `[b]`, aerial ids joined by line breaks} and, if the data set stores it, "sky_mask": bool
      `[b, Hg, Wg]`; "labels": uint8 and "depth": uint16 in centimetres, `[b, Hg, Wg]`.

    Raises:
      UserError: the split is unknown, `batch_size` is not a multiple of `process_count`, or stored
        labels differ in size from `config.data.ground_size`.
    """
    layout = ("labels", "depth") if with_scene_layout else ()
    also = ("aerial_id", "positives", "semi_positives", "sky_mask", *layout)
    source = open_source(builder, split, also=also)
    decode = PairDecoder(data_config)

    def load(index: int) -> dict[str, Any]:
        example = source[index]
        return decode(example) | read_ids(example) | {"index": np.int64(index)}

    return _iterate_once(len(source), load, data_config, batch_size, process_index, process_count)


def iterate_tiles(
    builder: tfds.core.DatasetBuilder,
    data_config,
    batch_size: int,
    *,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[dict[str, np.ndarray]]:
    """Iterates once over a gallery's tiles, batched and padded as by `iterate_batches`.

    Args:
      builder: a built gallery (`catalog.open_gallery`).
      data_config: `config.data`: aerial_size, num_threads.
      batch_size: tiles per batch over all processes.
      process_index: this process, 0 .. process_count - 1.
      process_count: processes that share each batch.

    Returns:
      An iterator of {"aerial": uint8 `[b, H, W, 3]`, "id": str `[b]`, "mask": bool
      `[b]`, false for padding}.

    Raises:
      UserError: `batch_size` is not a multiple of `process_count`.
    """
    source = open_source(builder, "test")
    size = tuple(data_config.aerial_size)

    def load(index: int) -> dict[str, Any]:
        example = source[index]
        name = get_id(example)
        aerial = images.decode_image(example["aerial"], size, name=f"tile {name}")
        return {"aerial": aerial, "id": np.str_(name)}

    return _iterate_once(len(source), load, data_config, batch_size, process_index, process_count)


def _shuffle(source: Source | DecodedPairs, batch_size: int, seed: int) -> grain.MapDataset:
    """The endless order of training: repeated passes, each of complete batches only."""
    dataset = grain.MapDataset.source(source).seed(seed).shuffle()
    if len(source) > batch_size:
        dataset = dataset[: len(source) // batch_size * batch_size]
    return dataset.repeat(None)


def _iterate_once(
    num: int,
    load: Callable[[int], dict[str, Any]],
    data_config,
    batch_size: int,
    process_index: int,
    process_count: int,
) -> Iterator[dict[str, np.ndarray]]:
    local_batch_size = _local_batch_size(batch_size, process_count)

    def load_or_fill(position: int) -> dict[str, Any]:
        return load(min(position, num - 1)) | {"mask": np.bool_(position < num)}

    num_batches = -(-num // batch_size)
    dataset = grain.MapDataset.range(num_batches * batch_size).map(load_or_fill)
    dataset = dataset.batch(local_batch_size, drop_remainder=True)
    return iter(_prefetch(dataset[process_index::process_count], data_config))


def _can_rotate(data_config) -> bool:
    height, width = data_config.aerial_size
    return bool(data_config.panorama) and height == width and data_config.ground_size[1] % 4 == 0


def _local_batch_size(batch_size: int, process_count: int) -> int:
    if batch_size < 1 or batch_size % process_count:
        raise UserError(
            f"batch size {batch_size} cannot be shared equally by {process_count} processes; "
            "choose a multiple"
        )
    return batch_size // process_count


def count_threads(data_config) -> int:
    """Threads per process that read, decode and augment; with 0, each batch is loaded on request.

    If `config.data.num_threads` is -1, the number of cores, but at most 16, because two batches per
    thread are held in memory.
    """
    num_threads = int(data_config.num_threads)
    return num_threads if num_threads >= 0 else min(os.cpu_count() or 1, _MOST_THREADS)


def _prefetch(dataset: grain.MapDataset, data_config) -> grain.IterDataset:
    # Grain reads absl flags, which are unparsed unless absl's own app.run started the program.
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
    num_threads = count_threads(data_config)
    # One batch per thread and one waiting; Grain's default of 500 would hold gigabytes of batches.
    return dataset.to_iter_dataset(
        grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=2 * num_threads)
    )
