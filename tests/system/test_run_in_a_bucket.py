"""Training and evaluation side by side in a bucket, killed and restarted."""

import json
import os
import signal
import subprocess
import sys
from urllib.parse import quote
from urllib.request import Request, urlopen

import pytest
from bucket_server import BUCKET, serve_bucket
from compiling import FAST

from retroguide_jax.training.speed import SPEEDS

FLAGS = (
    "--config.train.num_steps=8",
    "--config.train.log_every=2",
    "--config.train.checkpoint_every=4",
)


@pytest.fixture(scope="module")
def bucket(data_dir):
    """(objects, environment) of a bucket that holds the data set."""
    pytest.importorskip("gcsfs", reason="pip install 'retroguide_jax[gcs]'")
    with serve_bucket() as (objects, env):
        for path in data_dir.rglob("*"):
            if path.is_file():
                put(env, f"data/{path.relative_to(data_dir)}", path.read_bytes())
        yield objects, env


def put(env, name, content):
    host = env["STORAGE_EMULATOR_HOST"]
    place = f"{host}/upload/storage/v1/b/{BUCKET}/o?uploadType=media&name={quote(name, safe='')}"
    urlopen(Request(place, content, method="POST")).close()


@pytest.mark.slow
def test_a_run_in_a_bucket_is_the_run_on_disk(bucket, train, run_command, tmp_path):
    objects, env = bucket
    done = train(tmp_path / "run", *FLAGS, timeout=900)
    assert done.returncode == 0, done.stderr

    workdir, data_dir = f"gs://{BUCKET}/run", f"gs://{BUCKET}/data"
    places = (f"--workdir={workdir}", f"--data_dir={data_dir}")
    command = [sys.executable, "-m", "retroguide_jax"]
    watch = [*command, "evaluate", *places, "--watch", "--metrics=psnr", "--poll_seconds=1"]
    variables = os.environ | env | {"XLA_FLAGS": FAST}
    quiet = {"stdin": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(watch, env=variables, stdout=subprocess.PIPE, **quiet) as watching:
        train_command = [*command, "train", "--config=city_smoke", *places, *FLAGS]
        with subprocess.Popen(
            train_command, env=variables, stdout=subprocess.PIPE, **quiet
        ) as training:
            for line in training.stdout:
                if line.startswith("step 6/"):
                    training.send_signal(signal.SIGKILL)
                    break
            training.communicate(timeout=60)
        assert "run/checkpoints/4/commit_success.txt" in objects
        assert "run/finished.json" not in objects
        done = run_command("train", "--config=city_smoke", *places, *FLAGS, timeout=900, **env)
        assert done.returncode == 0, done.stderr
        assert "from step 4 to 8" in done.stdout
        output, error = watching.communicate(timeout=900)
    assert watching.returncode == 0, error
    assert output.count("training has ended; 2 checkpoints scored") == 1

    in_bucket = [json.loads(line) for line in objects["run/metrics.jsonl"].splitlines()]
    on_disk = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    for row, known in zip(in_bucket, on_disk, strict=True):
        assert row | dict.fromkeys(SPEEDS) == known | dict.fromkeys(SPEEDS)
    rows = [json.loads(line) for line in objects["run/eval/results.jsonl"].splitlines()]
    assert [row["step"] for row in rows] == [4, 8]

    done = run_command(
        "evaluate", f"--workdir={tmp_path}/run", places[1], "--metrics=psnr", timeout=900, **env
    )
    assert done.returncode == 0, done.stderr
    row = json.loads((tmp_path / "run" / "eval" / "results.jsonl").read_text())
    assert row["weights"] == rows[-1]["weights"]
    assert row["metrics"] == rows[-1]["metrics"]
