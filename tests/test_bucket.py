"""Work directories in a bucket, simulated in memory: how files are written, what is refused."""

import json
import sys

import fsspec
import numpy as np
import pytest
from etils.epath import backend
from fsspec.implementations.memory import MemoryFileSystem
from ml_collections import ConfigDict

from retroguide_jax import files
from retroguide_jax.checkpoints.saving import is_finished, list_steps, mark_finished
from retroguide_jax.data.catalog import open_dataset
from retroguide_jax.errors import UserError
from retroguide_jax.evaluation import compare, results
from retroguide_jax.files import (
    make_absolute,
    relate,
    relocate,
    to_local_path,
    to_path,
    write_beside,
)
from retroguide_jax.training.writers import MetricWriter


class MemoryBucket(MemoryFileSystem):
    """A file system that, like gcsfs, has one bucket and refuses what an object store cannot do."""

    protocol = ("gcs", "gs")
    store, pseudo_dirs = {}, ["", "/bucket"]

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("gs://"))

    def mv(self, *args, **kwargs):
        raise NotImplementedError("an object store renames nothing")

    def _open(self, path, mode="rb", **kwargs):
        assert "a" not in mode, "an object store appends nothing"
        return super()._open(path, mode, **kwargs)


@pytest.fixture
def clear_caches():
    files._check_bucket.cache_clear()
    backend.fsspec_backend._get_filesystem.cache_clear()
    yield
    files._check_bucket.cache_clear()
    backend.fsspec_backend._get_filesystem.cache_clear()


@pytest.fixture
def workdir(monkeypatch, clear_caches):
    monkeypatch.setattr(fsspec, "filesystem", lambda name, **_: MemoryBucket())
    monkeypatch.setattr(MemoryBucket, "store", {})
    return to_path("gs://bucket/run")


def write_steps(workdir, resume_step, steps):
    writer = MetricWriter(workdir, resume_step)
    for step in steps:
        writer.write(step, {"loss": float(step)})
    return writer


def read_steps(workdir):
    return [
        json.loads(line)["step"] for line in (workdir / "metrics.jsonl").read_text().splitlines()
    ]


def test_local_paths_stay_what_they_were(tmp_path):
    assert to_path(str(tmp_path)) == tmp_path
    assert make_absolute(to_path("runs/a")).is_absolute()


def test_addresses_keep_their_form(workdir):
    assert str(make_absolute(workdir) / "best") == "gs://bucket/run/best"
    assert to_path(workdir) == workdir


def test_what_is_reported_from_a_bucket_and_what_from_a_folder(workdir, tmp_path):
    judge = tmp_path / "judge"
    assert relate(workdir, tmp_path) == str(workdir)
    assert relocate(relate(workdir, tmp_path), tmp_path) == workdir
    assert relocate(relate(judge, workdir), workdir) == judge
    assert relocate(relate(judge, tmp_path / "run"), tmp_path / "moved") == judge


@pytest.mark.parametrize("address", ["s3://bucket/run", "gs://", "gs:///run"])
def test_other_addresses_are_refused(address):
    with pytest.raises(UserError, match="give gs://BUCKET/NAME or a directory"):
        to_path(address)


def test_some_places_must_be_local(tmp_path):
    assert to_local_path(tmp_path) == tmp_path
    with pytest.raises(UserError, match="gs://bucket/views: give a local or mounted directory"):
        to_local_path("gs://bucket/views")


def test_a_missing_gcsfs_is_reported(monkeypatch, clear_caches):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(UserError, match=r"pip install 'retroguide_jax\[gcs\]'"):
        to_path("gs://bucket/run")


def test_a_missing_bucket_is_reported(workdir):
    with pytest.raises(UserError, match="gs://other: no such bucket"):
        to_path("gs://other/run")


def test_an_object_is_whole_or_absent(workdir):
    with write_beside(workdir / "a" / "file") as beside:
        beside.write_text("whole")
    with pytest.raises(ValueError), write_beside(workdir / "a" / "other") as beside:
        beside.write_text("ha")
        raise ValueError
    assert [path.name for path in (workdir / "a").iterdir()] == ["file"]
    assert (workdir / "a" / "file").read_text() == "whole"
    assert not beside.parent.exists()


def test_what_cannot_be_put_is_reported_in_one_line(workdir, monkeypatch):
    def refuse(*args, **kwargs):
        raise RuntimeError("Forbidden\nand much more")

    monkeypatch.setattr(MemoryBucket, "_open", refuse)
    with pytest.raises(UserError, match=r"cannot write gs://bucket/run/file: Forbidden$"):
        with write_beside(workdir / "file") as beside:
            beside.touch()


def test_a_killed_run_loses_only_rows_since_the_last_put(workdir):
    killed = write_steps(workdir, 0, [1, 2])
    assert not (workdir / "metrics.jsonl").exists()
    killed.put()
    killed.write(3, {"loss": 3.0})
    assert read_steps(workdir) == [1, 2]
    write_steps(workdir, 1, [2, 3, 4]).close()
    assert read_steps(workdir) == [1, 2, 3, 4]
    assert list((workdir / "events").iterdir())


def test_rows_are_put_once_a_minute(workdir, monkeypatch):
    monkeypatch.setattr("retroguide_jax.training.writers._PUT_SECONDS", -1)
    write_steps(workdir, 0, [1, 2])
    assert read_steps(workdir) == [1, 2]


def test_rows_of_the_ledger_come_one_after_the_other(workdir):
    assert results.read_rows(workdir) == []
    for step in (1, 2):
        results.append_row(workdir, {"step": step})
    assert results.read_rows(workdir) == [{"step": 1}, {"step": 2}]


def test_a_checkpoint_counts_when_its_last_file_is_there(workdir):
    for step in (5, 10):
        (workdir / "checkpoints" / str(step) / "_CHECKPOINT_METADATA").write_text("{}")
    (workdir / "checkpoints" / "5" / "commit_success.txt").write_text("")
    assert list_steps(workdir) == [5]


def test_the_end_is_marked_and_taken_back(workdir):
    mark_finished(workdir, 8)
    assert is_finished(workdir)
    mark_finished(workdir, None)
    assert not is_finished(workdir)


def test_per_image_files_are_compared(workdir):
    columns = {"id": np.array(["a", "b", "c"]), "psnr": np.array([1.0, 2.0, 4.0])}
    parts = {part: {} for part in ("examples", "metrics", "judges", "networks")}
    row = {"protocol": parts, "real_images": "r"}
    results.write_per_image(workdir / compare.PER_IMAGE_DIR / "step_1.csv", columns, row)
    _, report = compare.compare(workdir, workdir)
    assert json.dumps(report).count("gs://bucket/run/eval/per_image/step_1.csv")


def test_data_sets_are_not_built_in_a_bucket(workdir):
    config = ConfigDict({"name": "procedural_city", "config_name": "city_smoke", "raw_dir": ""})
    with pytest.raises(UserError, match="cannot write to a bucket: build it in a directory"):
        open_dataset(config, "gs://bucket/data")
