"""Stored records are read back unchanged and take no more space than their content."""

import os

from array_record.python import array_record_module
from pair_files import make_data_config, write_pairs
from tensorflow_datasets.core import file_adapters

from retroguide_jax.data import catalog, records


def test_records_are_written_as_they_are(tmp_path):
    path = tmp_path / "x.array_record"
    contents = [os.urandom(1000 + n) for n in range(5)] + [bytes(50_000)]
    records.UncompressedAdapter.write_examples(path, ((b"", content) for content in contents))
    reader = array_record_module.ArrayRecordReader(str(path))
    assert reader.read_all() == contents
    assert os.path.getsize(path) > sum(map(len, contents))  # zeros too


def test_builds_use_it_and_leave_tfds_as_it_was(tmp_path, monkeypatch):
    written = []
    write = records.UncompressedAdapter.write_examples.__func__

    def note(cls, path, iterator):
        written.append(path)
        return write(cls, path, iterator)

    monkeypatch.setattr(records.UncompressedAdapter, "write_examples", classmethod(note))
    before = dict(file_adapters.ADAPTER_FOR_FORMAT)
    catalog.open_dataset(make_data_config(write_pairs(tmp_path / "raw", 4)), tmp_path / "built")
    assert len(written) == 3
    assert file_adapters.ADAPTER_FOR_FORMAT == before
