"""Whole evaluations as users start them: work directories, folders, comparisons, many processes."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from compiling import make_xla_flags
from PIL import Image
from whole_run import NUM_STEPS

CHOSEN = "--metrics=default,retrieval_same_view,retrieval_reverse"


@pytest.fixture(scope="module")
def trained(finished, tmp_path_factory):
    """A finished run of two checkpoints, for scores to be written to."""
    # Training tests that run at the same time may be replacing one of its files.
    unfinished = shutil.ignore_patterns("*.part", "*.tmp*")
    return shutil.copytree(finished, tmp_path_factory.mktemp("runs") / "model", ignore=unfinished)


@pytest.fixture(scope="module")
def scored(run_command, trained, judge, data_dir, tmp_path_factory):
    """Results of one process on one device: (row, saved images, per-image file, stdout)."""
    out = tmp_path_factory.mktemp("scored")
    done = run_command(
        "evaluate",
        f"--workdir={trained}",
        f"--judge={judge}",
        f"--data_dir={data_dir}",
        "--num_noises=1",
        "--max_examples=15",
        "--batch_size=4",
        CHOSEN,
        f"--json={out / 'row.json'}",
        f"--per_image={out / 'images.csv'}",
        f"--save_images={out / 'images'}",
    )
    assert done.returncode == 0, done.stderr
    return json.loads((out / "row.json").read_text()), out / "images", out / "images.csv", done


@pytest.mark.smoke
def test_a_row_has_scores_with_intervals_and_their_protocol(scored, trained, judge):
    row, _, per_image, done = scored
    assert (row["step"], row["split"], row["direction"]) == (NUM_STEPS, "test", "a2g")
    names = {f"r@1_{kind}/judge" for kind in ("real", "generated", "shuffled", "same_view")}
    names |= {"psnr", "psnr_shuffled", "psnr_mean_image", "ssim_lua", "sd_shi", "seam_error"}
    names |= {"psnr_nosky", "sharpness_ratio", "fd_embedder", "fd_judge", "mrr_reverse/judge"}
    assert names <= row["metrics"].keys()
    for name, metric in row["metrics"].items():
        assert metric["low"] <= metric["value"] <= metric["high"], name
        assert metric["n"] in (14, 15)
    assert f"--workdir={trained}" in row["command"] and "jax" in row["machine"]
    protocol = row["protocol"]
    assert protocol["metrics"]["psnr_legacy"].startswith("10 log10(255^2")
    assert protocol["judges"]["judge"].keys() == {"step", "weights"}
    assert row["judges"]["judge"]["workdir"] == os.path.relpath(judge, trained)
    assert protocol["examples"]["num"] == 15
    assert len(row["protocol_hash"]) == len(row["weights"]) == len(row["config"]) == 16
    assert {entry["name"] for entry in row["absent"]} == {
        "diversity",
        "sky_spread_ratio",
        "broken_share",  # of fewer than 100 real images
    }
    (line,) = (trained / "eval" / "results.jsonl").read_text().splitlines()
    assert json.loads(line) == row
    assert len(per_image.read_text().splitlines()) == 16
    assert "psnr" in done.stdout


def test_saved_images_score_the_same_from_their_folders(run_command, scored, judge, tmp_path):
    row, images, _, _ = scored
    folders = [f"--{name}={images / name}" for name in ("generated", "reference", "source")]
    done = run_command(
        "evaluate",
        *folders,
        f"--sky_mask={images / 'sky_mask'}",
        f"--judge={judge}",
        "--batch_size=4",
        CHOSEN,
        f"--json={tmp_path / 'row.json'}",
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "row.json").read_text())
    compared = 0
    for name, metric in row["metrics"].items():
        # Folders have no embedder and no training set, and in another order each image has another
        # neighbour.
        if name.endswith(("embedder", "_mean_image")) or "_shuffled" in name:
            continue
        np.testing.assert_allclose(found["metrics"][name]["value"], metric["value"], rtol=1e-9)
        compared += 1
    assert compared > 30
    assert found["manifest"] == row["manifest"]


def start(args, *, devices, processes=1, number=0, port=0):
    env = os.environ | {"XLA_FLAGS": make_xla_flags(devices)}
    if processes > 1:
        env |= {
            "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
            "JAX_NUM_PROCESSES": str(processes),
            "JAX_PROCESS_ID": str(number),
        }
    return subprocess.Popen(
        [sys.executable, "-m", "retroguide_jax", *map(str, args)],
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ("devices", "processes"),
    [
        (1, 2),
        pytest.param(8, 1, marks=pytest.mark.slow),
        pytest.param(4, 1, marks=pytest.mark.slow),
        pytest.param(2, 2, marks=pytest.mark.slow),
    ],
)
def test_devices_and_processes_do_not_matter(
    scored, trained, judge, data_dir, tmp_path, devices, processes
):
    """15 examples, 4 per device at a time: unequal shares, and devices without any."""
    workdir = shutil.copytree(trained, tmp_path / "w", ignore=shutil.ignore_patterns("eval"))
    flags = [f"--workdir={workdir}", f"--judge={judge}", f"--data_dir={data_dir}", CHOSEN]
    flags += ["--num_noises=1", "--max_examples=15", "--batch_size=4"]
    flags += [f"--json={tmp_path / 'row.json'}", f"--per_image={tmp_path / 'images.csv'}"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started = [
        start(["evaluate", *flags], devices=devices, processes=processes, number=number, port=port)
        for number in range(processes)
    ]
    outputs = [process.communicate(timeout=300) for process in started]
    assert [process.returncode for process in started] == [0] * processes, outputs
    row, _, per_image, _ = scored
    found = json.loads((tmp_path / "row.json").read_text())
    assert found["metrics"].keys() == row["metrics"].keys()
    for name, metric in row["metrics"].items():
        if name.startswith("fd_"):  # embeddings are float32, whose sums depend on the threads
            assert found["metrics"][name] == pytest.approx(metric, rel=1e-6)
        else:
            assert found["metrics"][name] == metric, name  # bit by bit
    assert (found["ties"], found["manifest"]) == (row["ties"], row["manifest"])
    assert (tmp_path / "images.csv").read_text() == per_image.read_text()
    assert len((workdir / "eval" / "results.jsonl").read_text().splitlines()) == 1
    assert found["machine"]["processes"] == processes
    # The library under the processes prints its connections on stdout; the table is printed once.
    assert ["psnr" in out for out, _ in outputs] == [True] + [False] * (processes - 1)


@pytest.mark.slow  # tests/evaluation/test_watch.py has it without a training
def test_a_watching_job_scores_every_checkpoint_once(run_command, trained, data_dir, tmp_path):
    workdir = tmp_path / "w"
    flags = [f"--workdir={workdir}", f"--data_dir={data_dir}", "--watch", "--poll_seconds=0.1"]
    flags += ["--num_noises=1", "--metrics=psnr,retrieval", "--batch_size=16"]
    # Started before there is a checkpoint, killed while it works, and started again.
    process = start(["evaluate", *flags], devices=1)
    time.sleep(1)
    shutil.copytree(trained, workdir, ignore=shutil.ignore_patterns("eval", "finished.json"))
    ledger = workdir / "eval" / "results.jsonl"
    while not ledger.exists() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    _, err = process.communicate()
    assert process.returncode == -signal.SIGKILL, err
    shutil.copy(trained / "finished.json", workdir)
    for expected in ("checkpoints scored", "0 checkpoints scored"):
        done = run_command("evaluate", *flags)
        assert done.returncode == 0, done.stderr
        assert expected in done.stdout
    rows = [json.loads(line) for line in ledger.read_text().splitlines()]
    assert [row["step"] for row in rows] == [20, NUM_STEPS]
    assert len({row["weights"] for row in rows}) == 2
    assert len({row["protocol_hash"] for row in rows}) == 1
    done = run_command("evaluate", "--compare", workdir, workdir)
    assert done.returncode == 0, done.stderr
    assert "no difference shown" in done.stdout


def test_identical_and_shuffled_folders(run_command, scored, tmp_path):
    images = scored[1]
    same = [f"--generated={images / 'reference'}", f"--reference={images / 'reference'}"]
    done = run_command(
        "evaluate", *same, "--metrics=psnr,ssim_rgb,ssim_lua,rmse", f"--json={tmp_path / 'r.json'}"
    )
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "r.json").read_text())["metrics"]
    assert (metrics["psnr"]["value"], metrics["psnr"]["infinite"]) == (None, 15)
    assert (metrics["ssim_rgb"]["value"], metrics["rmse"]["value"]) == (1, 0)
    np.testing.assert_allclose(metrics["ssim_lua"]["value"], 1, atol=1e-6)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "give one of --workdir"),
        (["--workdir=w", "--generated=g"], "give one of --workdir"),
        (["--generated=g"], "needs --reference"),
        (["--workdir=w", "--resize=box:8x8"], "--resize goes with --generated"),
        (["--generated=g", "--reference=r", "--watch"], "--watch goes with --workdir"),
        (["--compare", "a", "b", "--split=test"], "--split goes with --workdir"),
        (["--workdir=w", "--metrics=psnnr"], "did you mean psnr?"),
        (["--workdir=w", "--preset=shy"], "did you mean shi?"),
        (["--workdir=w", "--batch_size=3"], "must be even"),
        (["--workdir=w", "--num_noises=0"], "--num_noises=0: must be at least 1"),
        (["--workdir=w", "--watch", "--checkpoint=best"], "leave out --checkpoint"),
        (["--workdir=w", "--features=a"], "give NAME=FILE"),
        (["--generated=g", "--reference=r"], "g: no such folder"),
    ],
)
def test_flags_that_do_not_go_together(capsys, flags, message):
    from retroguide_jax.__main__ import main

    assert main(["evaluate", *flags]) == 1
    assert message in capsys.readouterr().err


def test_what_is_missing_is_listed(run_command, scored, tmp_path):
    images = shutil.copytree(scored[1], tmp_path / "images")
    for name in ("test_000003", "test_000005"):
        (images / "generated" / f"{name}.png").unlink()
    folders = [f"--generated={images / 'generated'}", f"--reference={images / 'reference'}"]
    done = run_command("evaluate", *folders)
    assert done.returncode == 1
    assert "lacks 2 images: test_000003, test_000005" in done.stderr
    Image.new("RGB", (16, 16)).save(images / "generated" / "test_000003.png")
    Image.new("RGB", (16, 16)).save(images / "generated" / "test_000005.png")
    done = run_command("evaluate", *folders)
    assert done.returncode == 1
    assert "16x16" in done.stderr.replace(" ", "") and "--resize" in done.stderr
