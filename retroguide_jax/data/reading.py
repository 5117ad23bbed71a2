"""Counts, opens and decodes the stored examples of a data set's splits."""

import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from retroguide_jax.data import images, masks
from retroguide_jax.data.retrying import read_with_retries
from retroguide_jax.errors import StorageError, UserError
from retroguide_jax.text import one_line

_MOST_BYTES_KEPT = 2**30  # decoded training pairs kept in memory, per process


def get_features(builder: tfds.core.DatasetBuilder) -> dict[str, Any]:
    """The features that a data set stores, by name."""
    features: Any = builder.info.features  # TFDS types it as any feature, or None
    return dict(features)


def num_examples(builder: tfds.core.DatasetBuilder, split: str) -> int:
    """Returns how many examples a TFDS split ("test", "train[:-128]") holds.

    Raises:
      UserError: the split is unknown or empty.
    """
    try:
        count = builder.info.splits[split].num_examples
    except (KeyError, ValueError, AssertionError):
        count = 0
    if count < 1:  # negative for a slice that ends before it begins
        known = ", ".join(f"{name} ({info.num_examples})" for name, info in _splits(builder))
        raise UserError(
            f"data set {builder.info.full_name} has no examples for split {split!r}; it has {known}"
        )
    return count


def open_source(
    builder: tfds.core.DatasetBuilder, split: str, also: tuple[str, ...] = ()
) -> "Source":
    """Opens the features of a split that models need, and those of `also` that it stores.

    Args:
      builder: a built data set (`catalog.open_dataset`).
      split: a TFDS split.
      also: names of features besides "id", "aerial" and "ground".

    Raises:
      UserError: the split is unknown or empty.
    """
    num_examples(builder, split)
    wanted = ("id", "aerial", "ground", *also)
    stored = get_features(builder)
    features = {name: stored[name] for name in wanted if name in stored}
    raw = tfds.decode.DeserializeMethod.RAW_BYTES
    name = f"{builder.data_path}, split {split!r}"
    return Source(lambda: builder.as_data_source(split, deserialize_method=raw), features, name)  # pyright: ignore[reportCallIssue]


def read_pairs(
    builder: tfds.core.DatasetBuilder, data_config, split: str, num_pairs: int
) -> list[dict]:
    """Reads the first pairs of a split for viewing.

    Args:
      builder: a built data set (`catalog.open_dataset`).
      data_config: `config.data`: aerial_size, ground_size.
      split: a TFDS split.
      num_pairs: maximum number of pairs.

    Returns:
      Per pair {"id": str, "aerial": uint8 `[Ha, Wa, 3]`, "ground": uint8 `[Hg, Wg, 3]`}.

    Raises:
      UserError: the split is unknown.
    """
    source = open_source(builder, split)
    decode = PairDecoder(data_config)
    examples = [source[index] for index in range(min(num_pairs, len(source)))]
    return [{"id": get_id(example)} | decode(example) for example in examples]


class Source:
    """Random access to some features of a split, images still encoded.

    TFDS's own source would parse every stored feature, including depth and labels.

    Args:
      open_fn: opens the split's records for reading.
      features: features to parse, by name.
      name: name of the split in error messages.
    """

    def __init__(
        self,
        open_fn: Callable[[], Sequence[bytes]],
        features: dict[str, tfds.features.FeatureConnector],
        name: str,
    ):
        self._open_fn, self._name = open_fn, name
        self._records = open_fn()
        self._features = tfds.features.FeaturesDict(features)
        self._decoders = {
            name: tfds.decode.SkipDecoding()
            for name, feature in features.items()
            if isinstance(feature, tfds.features.Image)
        }

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> dict:
        what = f"{self._name}, example {index}"
        try:
            record = read_with_retries(lambda: self._records[index], self._reopen, what)
            example: Any = self._features.deserialize_example_np(record, decoders=self._decoders)
            return example
        except StorageError:
            raise
        except Exception as error:  # errors of a damaged file share no base class
            raise UserError(
                f"{what}: cannot be read: {one_line(error)}; "
                "delete that folder and build the data set again"
            ) from error

    def _reopen(self) -> None:
        self._records = self._open_fn()


class DecodedPairs:
    """Random access to {"aerial", "ground": uint8 [H, W, 3], "place": see `hash_place`}.

    A small data set stays decoded after its first pass.
    """

    def __init__(self, source: Source, data_config):
        self._source, self._decode = source, PairDecoder(data_config)
        views = (data_config.aerial_size, data_config.ground_size)
        num_bytes = sum(3 * height * width for height, width in views)
        self._keeps = len(source) * num_bytes <= _MOST_BYTES_KEPT
        self._kept: dict[int, dict[str, np.ndarray]] = {}

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        pair: dict[str, Any] | None = self._kept.get(index)
        if pair is None:
            example = self._source[index]
            pair = self._decode(example) | {"place": hash_place(example)}
            if self._keeps:
                for view in ("aerial", "ground"):
                    pair[view].flags.writeable = False  # the next pass must read the same pixels
                self._kept[index] = pair
        return pair


class PairDecoder:
    """Decodes the stored bytes of one example to uint8 images of the configured sizes."""

    def __init__(self, data_config):
        # Plain tuples, because reading a ConfigDict for every example costs as much as decoding.
        self._aerial_size = tuple(data_config.aerial_size)
        self._ground_size = tuple(data_config.ground_size)

    def __call__(self, example: dict) -> dict[str, np.ndarray]:
        """{"aerial": uint8 [Ha, Wa, 3], "ground": uint8 [Hg, Wg, 3]} and other stored features."""
        name = get_id(example)
        decoded = {
            "aerial": images.decode_image(
                example["aerial"], self._aerial_size, name=f"aerial of {name}"
            ),
            "ground": images.decode_image(
                example["ground"], self._ground_size, name=f"ground of {name}"
            ),
        }
        if "sky_mask" in example:
            decoded["sky_mask"] = masks.decode_mask(example["sky_mask"], self._ground_size)
        if "labels" in example:
            decoded["labels"] = masks.decode_labels(example["labels"], self._ground_size)
        if "depth" in example:
            decoded["depth"] = example["depth"][..., 0]
        return decoded


def read_ids(example: dict) -> dict[str, np.str_]:
    """An example's ids as `pipeline.iterate_batches` yields them."""
    own = get_id(example)
    aerial = get_id(example, "aerial_id") if "aerial_id" in example else own
    ids = {"id": own, "aerial_id": aerial}
    for name, default in (("positives", aerial), ("semi_positives", "")):
        # Joined, because a batch is an array and these lists vary in length.
        values = [value.decode("utf-8", "replace") for value in example.get(name, ())]
        ids[name] = "\n".join(values) or default
    return {name: np.str_(value) for name, value in ids.items()}


def hash_place(example: dict) -> np.int32:
    """A hash that is equal for pairs of one place, which share an aerial or a ground image.

    It has 31 bits: in a batch of 1,024 two places collide once in 4,000 batches.
    """
    aerial = example.get("aerial_id", example["id"])
    name = min([aerial, *example.get("positives", ())])
    return np.int32(zlib.crc32(name) >> 1)


def get_id(example: dict, name: str = "id") -> str:
    """One of an example's ids as text."""
    return example[name].decode("utf-8", "replace")


def _splits(builder: tfds.core.DatasetBuilder):
    return sorted(builder.info.splits.items())
