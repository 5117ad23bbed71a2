"""Whole runs as users start them: train, stop, resume, evaluate, generate, and errors."""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from compiling import FAST
from PIL import Image
from whole_run import FLAGS, NUM_STEPS

from retroguide_jax.checkpoints.saving import list_steps
from retroguide_jax.training.speed import SPEEDS


@pytest.fixture(scope="session")
def stop_at(data_dir):
    """Returns stop_at(workdir, step, number): starts a run and signals it when it prints `step`."""

    def run(workdir, step, number):
        command = [sys.executable, "-m", "retroguide_jax", "train", "--config=city_smoke"]
        command += [f"--workdir={workdir}", f"--data_dir={data_dir}", *FLAGS]
        with subprocess.Popen(
            command,
            env=os.environ | {"XLA_FLAGS": FAST},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            for line in process.stdout:
                if line.startswith(f"step {step}/"):
                    process.send_signal(number)
                    break
            out, err = process.communicate(timeout=300)
        return process.returncode, out, err

    return run


@pytest.fixture(scope="session")
def stopped(finished, stop_at, tmp_path_factory):
    """The work directory of a run stopped by SIGTERM somewhere, with what it said.

    After `finished`, so that the step is compiled already.
    """
    workdir = tmp_path_factory.mktemp("runs") / "stopped"
    step = random.randint(6, NUM_STEPS - 8)
    status, out, err = stop_at(workdir, step, signal.SIGTERM)
    return workdir, step, status, out, err


def read_rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def read_final(workdir):
    """Every array of the last checkpoint."""
    with ocp.CheckpointManager(workdir / "checkpoints") as manager:
        assert manager.latest_step() == NUM_STEPS
        items = {name: ocp.args.StandardRestore() for name in ("model", "trainer")}
        restored = manager.restore(NUM_STEPS, args=ocp.args.Composite(**items))
    return dict(restored.items())


def assert_same_run(workdir, expected):
    found, wanted = read_final(workdir), read_final(expected)
    jax.tree.map(np.testing.assert_array_equal, found, wanted)
    rows = [read_rows(place / "metrics.jsonl") for place in (workdir, expected)]
    for row in (row for file in rows for row in file):
        for name in (*SPEEDS, "guide/drift"):  # a resumed run has no earlier guide to compare with
            row.pop(name, None)
    assert rows[0] == rows[1]


def assert_one_line(done, message):
    assert done.returncode == 1, (done.stdout, done.stderr)
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), done.stderr
    assert message in lines[0]


def corrupt(workdir, step):
    """Cuts off the largest file of each item of a checkpoint."""
    for item in ("model", "trainer"):
        folder = workdir / "checkpoints" / str(step) / item
        files = [path for path in folder.rglob("*") if path.is_file()]
        largest = max(files, key=lambda path: path.stat().st_size)
        os.truncate(largest, largest.stat().st_size // 2)


@pytest.mark.smoke
def test_what_a_run_leaves(finished):
    names = {path.name for path in finished.iterdir()}
    assert {
        "config.json",
        "shardings.txt",
        "starts.jsonl",
        "metrics.jsonl",
        "events",
        "samples",
        "checkpoints",
        "best",
    } <= names
    assert not [path for path in finished.rglob("*.tmp*")]
    (start,) = read_rows(finished / "starts.jsonl")
    assert start["step"] == 0 and f"--workdir={finished}" in start["command"]
    assert {"retroguide_jax", "jax", "device", "processes"} <= start["machine"].keys()
    rows = [row for row in read_rows(finished / "metrics.jsonl") if "skipped/total" in row]
    assert [row["step"] for row in rows] == list(range(1, NUM_STEPS + 1))
    assert {"d/loss", "g/l1", "skipped/total"} <= rows[-1].keys()
    assert rows[-1]["skipped/total"] == 0
    scores = [row for row in read_rows(finished / "metrics.jsonl") if "val/psnr" in row]
    assert [row["step"] for row in scores] == [12, 24]
    samples = sorted(path.name for path in (finished / "samples").iterdir())
    assert samples == ["step_000012.png", "step_000024.png"]
    grid = np.asarray(Image.open(finished / "samples" / samples[0]))
    assert grid.ndim == 3 and grid.std() > 5
    kept = sorted(int(path.name) for path in (finished / "checkpoints").iterdir())
    assert kept == [20, 24]
    config = json.loads((finished / "config.json").read_text())
    assert config["train"]["num_steps"] == NUM_STEPS


@pytest.mark.smoke
def test_generate_from_image_files(run_command, finished, tmp_path):
    (tmp_path / "in").mkdir()
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.jpg"):
        Image.fromarray(rng.integers(0, 255, (70, 90, 3), np.uint8)).save(tmp_path / "in" / name)
    done = run_command(
        "generate",
        f"--workdir={finished}",
        f"--input={tmp_path / 'in'}",
        f"--output={tmp_path / 'out'}",
        "--num_samples=2",
    )
    assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["a_0.png", "a_1.png", "b_0.png", "b_1.png"]
    images = [np.asarray(Image.open(tmp_path / "out" / name)) for name in names]
    assert {image.shape for image in images} == {(32, 128, 3)}


def test_a_finished_run_does_nothing(train, finished):
    before = {path: path.stat().st_mtime_ns for path in (finished / "checkpoints").rglob("*")}
    done = train(finished, *FLAGS)
    assert done.returncode == 0, done.stderr
    assert "nothing to do" in done.stdout
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_sigterm_saves_and_the_same_command_resumes_bitwise(train, finished, stopped, tmp_path):
    workdir, step, status, out, err = stopped
    assert status == 143, err
    assert "stopped by SIGTERM at step" in out
    steps = sorted(int(path.name) for path in (workdir / "checkpoints").iterdir())
    assert step <= steps[-1] < NUM_STEPS
    copied = shutil.copytree(workdir, tmp_path / "resumed")
    done = train(copied, *FLAGS)
    assert done.returncode == 0, done.stderr
    assert_same_run(copied, finished)
    assert [row["step"] for row in read_rows(copied / "starts.jsonl")] == [0, steps[-1]]


@pytest.mark.slow  # test_jobs.py kills two processes
def test_sigkill_loses_nothing_before_the_last_checkpoint(train, finished, stop_at, tmp_path):
    workdir = tmp_path / "killed"
    step = random.randint(6, NUM_STEPS - 8)
    status, _, err = stop_at(workdir, step, signal.SIGKILL)
    assert status == -signal.SIGKILL, err
    done = train(workdir, *FLAGS)
    assert done.returncode == 0, done.stderr
    assert_same_run(workdir, finished)


def test_a_changed_config_is_refused_unless_allowed_by_name(train, finished, tmp_path):
    change = "config.losses.retrieval_weight was 0.3, now 2.5"
    flag = "--allow_change=losses.retrieval_weight"
    flags = (*FLAGS, "--config.losses.retrieval_weight=2.5")
    done = train(finished, *flags)
    assert_one_line(done, change)
    assert flag in done.stderr
    done = train(shutil.copytree(finished, tmp_path / "copied"), *flags, flag)
    assert done.returncode == 0, done.stderr
    assert f"config changed at step {NUM_STEPS}: {change}" in done.stdout


def test_a_damaged_checkpoint_is_passed_over(run_command, train, finished, stopped, tmp_path):
    workdir = shutil.copytree(stopped[0], tmp_path / "corrupt")
    older, newest = list_steps(workdir)
    corrupt(workdir, newest)
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    flags = (f"--input={tmp_path / 'a.png'}", f"--output={tmp_path / 'out'}")
    done = run_command("generate", f"--workdir={workdir}", *flags)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    first, second = [line for line in done.stderr.splitlines() if line.startswith("warning: ")]
    assert f"{newest} is DAMAGED" in first and f"using {workdir}/checkpoints/{older}" in second
    assert list_steps(workdir) == [older, newest]  # a reader renames nothing
    done = train(workdir, *FLAGS)
    assert done.returncode == 0, done.stderr
    assert f"{newest} is DAMAGED" in done.stderr and "Traceback" not in done.stderr
    assert f"from step {older} to {NUM_STEPS}" in done.stdout
    assert (workdir / "checkpoints" / f"damaged_{newest}").is_dir()
    assert_same_run(workdir, finished)


def test_where_no_checkpoint_is_whole_the_error_says_so(run_command, stopped, data_dir, tmp_path):
    workdir = shutil.copytree(stopped[0], tmp_path / "corrupt")
    for step in list_steps(workdir):
        corrupt(workdir, step)
    done = run_command("evaluate", f"--workdir={workdir}", f"--data_dir={data_dir}")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    *warnings, error = done.stderr.strip().splitlines()
    assert len(warnings) == 2 and "none of the checkpoints can be read" in error


@pytest.mark.parametrize("command", ["evaluate", "generate"])
def test_a_missing_work_directory_is_one_line(run_command, command, tmp_path):
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    flags = (f"--input={tmp_path / 'a.png'}", f"--output={tmp_path / 'out'}")
    done = run_command(
        command, f"--workdir={tmp_path / 'w'}", *(flags if command == "generate" else ())
    )
    assert_one_line(done, "no such work directory")
    assert not (tmp_path / "w").exists()


def test_a_judge_cannot_generate(run_command, judge, tmp_path):
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    flags = (f"--input={tmp_path / 'a.png'}", f"--output={tmp_path / 'out'}")
    assert_one_line(run_command("generate", f"--workdir={judge}", *flags), "embedder only")


def test_a_full_disk_is_one_line_and_spoils_nothing(stopped, data_dir, tmp_path):
    """A limit on file sizes simulates a full disk: writes fail part of the way."""
    workdir = shutil.copytree(stopped[0], tmp_path / "full")
    before = {p: p.read_bytes() for p in (workdir / "checkpoints").rglob("*") if p.is_file()}
    command = [sys.executable, "-m", "retroguide_jax", "train", "--config=city_smoke", *FLAGS]
    done = subprocess.run(
        [*command, f"--workdir={workdir}", f"--data_dir={data_dir}"],
        env=os.environ | {"XLA_FLAGS": FAST},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("error: ")
    assert before == {path: path.read_bytes() for path in before}


def test_a_run_that_diverges_is_stopped(train, tmp_path):
    done = train(
        tmp_path / "w",
        "--config.mode=contrastive",
        "--config.optimizer.embedder.learning_rate=1e38",
        "--config.optimizer.embedder.warmup_steps=0",
        "--config.train.max_nonfinite=3",
        "--config.eval.every=100",
        "--config.train.num_steps=40",
    )
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stderr
    assert "the run has diverged" in done.stderr.splitlines()[-1]


def test_frozen_mode_keeps_the_embedder_of_its_work_directory(train, judge, tmp_path):
    # Of all generators the U-Net compiles fastest; with one example there is no validation.
    flags = (
        "--config.mode=frozen",
        "--config.train.num_steps=2",
        "--config.train.structure_steps=0",
        "--config.data.val_split=train[:1]",
        "--config.generator.guidance=pixels",
        "--config.generator.unet_features=(4, 8)",
        "--config.discriminator.conditioning=pixels",
        "--config.losses.style=none",
        "--config.losses.retrieval=off",
    )
    done = train(tmp_path / "w", *flags)
    assert_one_line(done, "config.mode=frozen needs config.frozen_embedder")
    done = train(tmp_path / "w", *flags, f"--config.frozen_embedder={judge}")
    assert done.returncode == 0, done.stderr
    embedders = []
    for workdir, step in ((judge, 0), (tmp_path / "w", 2)):
        with ocp.CheckpointManager(workdir / "checkpoints") as manager:
            items = ocp.args.Composite(model=ocp.args.StandardRestore())
            embedders.append(manager.restore(step, args=items)["model"]["ema"]["embedder"])
    jax.tree.map(np.testing.assert_array_equal, *embedders)


def test_a_metric_that_the_mode_cannot_have_is_reported_before_the_training(train, tmp_path):
    done = train(
        tmp_path / "w",
        "--config.mode=contrastive",
        "--config.eval.best_metric=r@1_generated/embedder",
    )
    assert_one_line(done, "config.eval.best_metric='r@1_generated/embedder': mode contrastive")
    assert not (tmp_path / "w" / "metrics.jsonl").exists() and "step 2/" not in done.stdout


def test_judges_and_metrics_of_the_config_score_while_training(train, judge, tmp_path):
    flags = ("--config.mode=contrastive", "--config.train.num_steps=2", "--config.eval.every=1")
    done = train(
        tmp_path / "w",
        *flags,
        "--config.eval.metrics=retrieval,psnr",
        f"--config.eval.judges={judge}",
        "--config.eval.best_metric=r@1_real/judge",
    )
    assert done.returncode == 0, done.stderr
    rows = [
        row for row in read_rows(tmp_path / "w" / "metrics.jsonl") if "val/mrr_real/judge" in row
    ]
    assert [row["step"] for row in rows] == [1, 2]
    # The score is the same twice: the newer checkpoint is kept..
    assert rows[0]["val/mrr_real/judge"] == rows[1]["val/mrr_real/judge"]
    # Its score is always the same: the newer checkpoint is the better bet.
    assert [path.name for path in (tmp_path / "w" / "best").iterdir()] == ["2"]
    done = train(tmp_path / "v", *flags, "--config.eval.metrics=lpips_alex")
    assert_one_line(done, "config.eval.best_metric='auto' needs retrieval; config.eval.metrics has")
    done = train(tmp_path / "v", *flags, "--config.eval.metrics=retrieval,lpips_alex")
    assert_one_line(done, "config.eval.metrics: lpips_alex: ")


@pytest.mark.slow  # its training step is tested in tests/training/test_switches.py
def test_ground_to_aerial_trains(train, tmp_path):
    flags = ("--config.train.num_steps=2", "--config.eval.every=2")
    done = train(tmp_path / "w", *flags, config="city_smoke:g2a")
    assert done.returncode == 0, done.stderr
    assert "ground to aerial" in done.stdout
    assert (tmp_path / "w" / "samples" / "step_000002.png").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--config.train.adversarial_batch_size=7",), "adversarial_batch_size=7 must divide"),
        (("--config.data.aerial_size=(66, 66)",), "config.data.aerial_size=(66, 66)"),
        (("--config.mesh.data=3",), "config.mesh: slice=1, data=3, fsdp=1 does not fit 1 device"),
    ],
)
def test_configs_that_cannot_be_are_one_line(train, tmp_path, flags, message):
    assert_one_line(train(tmp_path / "w", *flags), message)
    assert not (tmp_path / "w").exists()
