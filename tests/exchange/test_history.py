"""An export records how its weights were made, and no folders of the machine."""

import json

import pytest
from tiny import make_tiny_config

from retroguide_jax.exchange import history
from retroguide_jax.files import append_row, read_rows

MACHINE = {"commit": "0123abc"}


@pytest.mark.parametrize(
    ("command", "clean"),
    [
        ("__main__.py train --workdir=/home/me/runs/a", "retroguide train --workdir=a"),
        ("retroguide train --workdir=runs/a", "retroguide train --workdir=runs/a"),
        ("evaluate --judge ~/b/c '--x=(1, 2)'", "evaluate --judge c '--x=(1, 2)'"),
        ("--config.eval.judges=/a/b,../c/d,pretrained:e", "--config.eval.judges=b,d,pretrained:e"),
        ("--workdir=gs://bucket/a", "--workdir=gs://bucket/a"),
        ("'/a/b/c' '/d'", "'c' 'd'"),
    ],
)  # fmt: skip
def test_folders_are_left_out(command, clean):
    assert history.leave_out_folders(command) == clean


def test_the_config_names_no_folder():
    fields = {"frozen_embedder": "/a/guide", "data.raw_dir": "", "eval.judges": ("/a/b", "c/d")}
    clean = history.clean_config(make_tiny_config(mode="frozen", **fields))
    assert (clean.frozen_embedder, clean.data.raw_dir) == ("guide", "")
    assert clean.eval.judges == ("b", "d")


def test_the_embedders_training_comes_first(tmp_path):
    config = make_tiny_config(mode="frozen", frozen_embedder=str(tmp_path / "guide"))
    for name in ("guide", "run"):
        row = {"command": f"retroguide train --workdir={tmp_path / name}", "machine": MACHINE}
        append_row(tmp_path / name / "starts.jsonl", row)
    history.copy_history(config, tmp_path / "run", tmp_path / "export")
    (tmp_path / "export" / "embedder.safetensors").touch()
    history.copy_history(config, tmp_path / "export", tmp_path / "again")
    for output in ("export", "again"):
        assert read_rows(tmp_path / output / "starts.jsonl") == [
            {"command": f"retroguide train --workdir={name}", "machine": MACHINE}
            for name in ("guide", "run")
        ]


def test_what_was_imported_stays_known(tmp_path):
    record = {"files": {"/a/b.pth": "f" * 64}, "layout": "saig", "arrays": [], "initialised": []}
    (tmp_path / "imported.json").write_text(json.dumps(record))
    history.copy_history(make_tiny_config(), tmp_path, tmp_path / "export")
    found = history.read_record(tmp_path / "export")
    assert found == record | {"files": {"b.pth": "f" * 64}}
