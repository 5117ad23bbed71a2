"""Failing storage is read again; only data that was read and is damaged must be rebuilt."""

import errno
import os

import numpy as np
import pytest
from pair_files import make_data_config, write_pairs

from retroguide_jax import __main__ as main
from retroguide_jax.data import catalog, pipeline, reading, retrying
from retroguide_jax.errors import StorageError, UserError
from retroguide_jax.parallel import failure

HICCUPS = [
    OSError(errno.ESTALE, "Stale file handle"),
    OSError(errno.EIO, "Input/output error"),
    TimeoutError(errno.ETIMEDOUT, "Connection timed out"),
    RuntimeError("pread() failed: Input/output error; reading /x/y.array_record"),
    RuntimeError("open() failed: Stale file handle; opening /x/y.array_record"),
]


@pytest.fixture(autouse=True)
def delays(monkeypatch):
    """The delays that were requested; none is waited."""
    waited = []
    monkeypatch.setattr(retrying.time, "sleep", waited.append)
    return waited


class Hiccuping:
    """Records whose storage fails several times; counts how often it is opened."""

    def __init__(self, records, error, num_failures):
        self.records, self.error, self.left = records, error, num_failures
        self.num_opened = 0

    def open(self):
        self.num_opened += 1
        return self

    def __len__(self):
        return len(self.records)

    def __getitem__(self, index):
        if self.left:
            self.left -= 1
            raise self.error
        return self.records[index]


@pytest.fixture(scope="module")
def builder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    return catalog.open_dataset(make_data_config(write_pairs(folder / "raw", 12)), folder / "built")


def spoil(monkeypatch, builder, error, num_failures):
    real = type(builder).as_data_source
    spoilt = []

    def as_data_source(self, *args, **kwargs):
        if not spoilt:
            spoilt.append(Hiccuping(real(self, *args, **kwargs), error, num_failures))
        return spoilt[0].open()

    monkeypatch.setattr(type(builder), "as_data_source", as_data_source)
    return spoilt


@pytest.mark.parametrize("error", HICCUPS, ids=str)
@pytest.mark.parametrize("num_failures", [1, len(retrying.DELAYS)])
def test_a_hiccup_changes_nothing(error, num_failures, builder, delays, monkeypatch, capsys):
    wanted = reading.open_source(builder, "train")[0]
    spoilt = spoil(monkeypatch, builder, error, num_failures)
    found = reading.open_source(builder, "train")[0]
    assert found["id"] == wanted["id"] and found["aerial"] == wanted["aerial"]
    assert delays == list(retrying.DELAYS[:num_failures])
    assert spoilt[0].num_opened == 1 + num_failures  # a stale handle stays stale
    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) == num_failures and "example 0" in warnings[0]


@pytest.mark.parametrize("error", HICCUPS, ids=str)
def test_storage_that_does_not_answer_ends_by_a_status_that_is_queued_again(
    error, builder, monkeypatch
):
    spoil(monkeypatch, builder, error, 10**6)
    data_config = make_data_config("", num_threads=0)
    batches = pipeline.make_train_iterator(builder, data_config, batch_size=2, seed=0)
    with pytest.raises(StorageError, match="run the same command again") as caught:
        next(batches)
    assert "delete" not in str(caught.value)
    assert failure.choose_status(caught.value) == failure.STUCK_STATUS
    monkeypatch.setattr("retroguide_jax.commands.data.run", lambda args: next(batches))
    assert main.main(["data", "check", "image_pairs"]) == 142


def test_damaged_records_are_not_asked_again(tmp_path, delays):
    builder = catalog.open_dataset(
        make_data_config(write_pairs(tmp_path / "raw", 12)), tmp_path / "built"
    )
    source = reading.open_source(builder, "train")
    (path,) = builder.info.splits["train"].filepaths
    content = bytearray(path.read_bytes())
    place = content.index(b"IDAT")
    content[place : place + 8] = b"scribble"
    path.write_bytes(content)
    with pytest.raises(UserError, match="build the data set again") as caught:
        [source[index] for index in range(len(source))]
    assert failure.choose_status(caught.value) == 1 and not delays


def test_a_file_that_vanishes_is_storage(tmp_path, delays):
    builder = catalog.open_dataset(
        make_data_config(write_pairs(tmp_path / "raw", 12)), tmp_path / "built"
    )
    source = reading.open_source(builder, "train")
    (path,) = builder.info.splits["train"].filepaths
    os.rename(path, tmp_path / "elsewhere")
    with pytest.raises(StorageError):
        source[0]
    assert len(delays) == len(retrying.DELAYS)
    os.rename(tmp_path / "elsewhere", path)
    assert np.frombuffer(source[0]["id"], np.uint8).size
