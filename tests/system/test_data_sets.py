"""Each data set from its raw folder to a score: check, build, show, train, evaluate."""

import json

import numpy as np
import pytest
import raw_cvact
import raw_cvusa
import raw_vigor
from PIL import Image

from retroguide_jax.config import load_config
from retroguide_jax.data.catalog import open_dataset
from retroguide_jax.data.pipeline import iterate_batches

CASES = {
    "cvusa": (raw_cvusa.write_tree, {}, "cvusa", "", "val"),
    "cvact": (raw_cvact.write_tree, {}, "cvact", "half", "val"),
    # 30.3 m of a 160-pixel tile are the 64 pixels that the smoke configs want.
    "vigor same-area": (
        raw_vigor.write_tree,
        {"tile_size": 160},
        "vigor_gen",
        "vigor_crop_same_area",
        "test",
    ),
    "vigor cross-area": (raw_vigor.write_tree, {}, "vigor_gen", "as_is_cross_area", "test"),
}
# Their differences are tested under tests/datasets/ as well.
SLOW = ("cvact", "vigor cross-area")
STEPS = ("train.num_steps", "eval.every", "train.checkpoint_every", "train.sample_every")


@pytest.fixture(
    params=[pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in CASES]
)
def case(request, tmp_path):
    """(data set, config_name, raw folder, split to score)."""
    write_tree, options, name, variant, split = CASES[request.param]
    raw_dir = tmp_path / "raw"
    write_tree(raw_dir, **options)
    return name, variant, raw_dir, split


@pytest.fixture
def built(case, run_command, tmp_path):
    """The flag of the folder with the data set, after check, build and show."""
    name, variant, raw_dir, _ = case
    data = [f"--raw_dir={raw_dir}", f"--config_name={variant}"]
    data += ["--config.data.aerial_size=(64, 64)", "--config.data.ground_size=(32, 128)"]
    place = f"--data_dir={tmp_path / 'built'}"

    report = tmp_path / "report.json"
    checked = run_command("data", "check", name, *data, f"--json={report}")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    found = json.loads(report.read_text())
    assert found["ok"] and sum(found["counts"].values()) >= 40 and found["layout"] in checked.stdout

    built = run_command("data", "build", name, *data, place)
    assert built.returncode == 0, built.stderr
    sheet = tmp_path / "sheet.png"
    shown = run_command("data", "show", name, *data, place, "--num=4", f"--output={sheet}")
    assert shown.returncode == 0 and shown.stderr == "", shown.stderr
    assert np.asarray(Image.open(sheet)).std() > 10
    return place


def test_from_a_raw_folder_to_batches(case, built):
    name, variant, raw_dir, split = case
    fields = {"raw_dir": raw_dir, "config_name": variant}
    flags = [f"--config.data.{field}={value}" for field, value in fields.items()]
    config = load_config(f"{name}:smoke", flags)
    builder = open_dataset(config.data, built.partition("=")[2], build=False)
    for part in (config.data.train_split, split):
        batch = next(iter(iterate_batches(builder, config.data, part, batch_size=4)))
        assert batch["aerial"].shape == (4, *config.data.aerial_size, 3)
        assert batch["ground"].shape == (4, *config.data.ground_size, 3)
        assert batch["aerial"].std() > 0.05 and batch["ground"].std() > 0.05


@pytest.mark.slow
def test_from_a_raw_folder_to_a_score(case, built, run_command, tmp_path):
    name, variant, raw_dir, split = case
    workdir = tmp_path / "run"
    train = ["train", f"--config={name}:smoke", f"--config.data.raw_dir={raw_dir}"]
    train += [f"--config.data.config_name={variant}", *(f"--config.{s}=4" for s in STEPS)]
    trained = run_command(*train, f"--workdir={workdir}", built)
    assert trained.returncode == 0, trained.stderr
    # The data set is the one built above: neither checked nor stored again.
    assert "building" not in trained.stderr
    assert (workdir / "samples" / "step_000004.png").exists()

    done = run_command("evaluate", f"--workdir={workdir}", built, "--num_noises=1")
    assert done.returncode == 0, done.stderr
    (row,) = (json.loads(line) for line in (workdir / "eval" / "results.jsonl").open())
    assert row["split"] == split
    assert {"r@1_real/embedder", "r@1_generated/embedder", "psnr"} <= row["metrics"].keys()


def test_a_folder_that_cannot_be_built_from_is_reported_before(run_command, tmp_path):
    raw_cvusa.write_tree(tmp_path / "CVUSA")
    victim = next((tmp_path / "CVUSA" / "streetview" / "panos").iterdir())
    victim.write_bytes(victim.read_bytes()[:300])
    flags = [f"--raw_dir={tmp_path / 'CVUSA'}", "--config.data.aerial_size=(64, 64)"]
    flags += ["--config.data.ground_size=(32, 128)"]
    checked = run_command("data", "check", "cvusa", *flags)
    assert checked.returncode == 1
    assert victim.name in checked.stdout and "not ready" in checked.stdout
    built = run_command("data", "build", "cvusa", *flags, f"--data_dir={tmp_path / 'built'}")
    assert built.returncode == 1
    assert victim.name in built.stderr and "Traceback" not in built.stderr
    allowed = run_command("data", "check", "cvusa", *flags, "--allow_bad")
    assert allowed.returncode == 0, allowed.stdout
