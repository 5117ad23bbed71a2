"""Writes ArrayRecord files without compressing the images a second time."""

import contextlib
import os
from collections.abc import Iterable, Iterator

from array_record.python import array_record_module  # pyright: ignore[reportAttributeAccessIssue]
from tensorflow_datasets.core import file_adapters


class UncompressedAdapter(file_adapters.ArrayRecordFileAdapter):
    """Writes records uncompressed; any ArrayRecord reader reads them.

    The records hold JPEG and PNG files: TFDS's own adapter, whose options are fixed, compresses
    them again, gains nothing, and takes four times as long.
    """

    @classmethod
    def write_examples(cls, path: os.PathLike, iterator: Iterable[tuple[bytes, bytes]]) -> None:
        """Writes (key, serialized example) pairs, in order, one record each."""
        options = "group_size:1,uncompressed"
        writer = array_record_module.ArrayRecordWriter(os.fspath(path), options)
        for _, record in iterator:
            writer.write(record)
        writer.close()


@contextlib.contextmanager
def uncompressed() -> Iterator[None]:
    """Context manager: inside it, TFDS builders write ArrayRecord with `UncompressedAdapter`."""
    adapters, kind = file_adapters.ADAPTER_FOR_FORMAT, file_adapters.FileFormat.ARRAY_RECORD
    own = adapters[kind]
    adapters[kind] = UncompressedAdapter
    try:
        yield
    finally:
        adapters[kind] = own
