"""Real processes that train together, one of which gets a signal to end."""

import os
import signal
import socket
import subprocess
import sys

import pytest
from compiling import FAST

# The embedder alone: stopping does not depend on the networks, and it compiles faster.
FLAGS = [
    "--config.mode=contrastive",
    "--config.train.num_steps=500",
    "--config.train.log_every=1",
    "--config.train.checkpoint_every=1000",
    "--config.eval.every=1000",
]


@pytest.fixture
def start(data_dir):
    """Returns start(workdir, index, port) -> a process of two."""
    started = []

    def run(workdir, index, port):
        variables = {
            "XLA_FLAGS": FAST,
            "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
            "JAX_NUM_PROCESSES": "2",
            "JAX_PROCESS_ID": str(index),
        }
        command = [sys.executable, "-m", "retroguide_jax", "train", "--config=city_smoke"]
        process = subprocess.Popen(
            [*command, f"--workdir={workdir}", f"--data_dir={data_dir}", *FLAGS],
            env=os.environ | variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()


@pytest.mark.parametrize("signalled", [1, pytest.param(0, marks=pytest.mark.slow)])
def test_sigterm_to_one_process_has_all_save_once_and_leave(start, tmp_path, signalled):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    job = [start(tmp_path / "w", index, port) for index in range(2)]
    for line in job[0].stdout:
        if line.startswith("[0/2] step 3/"):
            job[signalled].send_signal(signal.SIGTERM)
            break
    texts = [process.communicate(timeout=300) for process in job]
    assert [process.returncode for process in job] == [143, 143], texts
    steps = [int(path.name) for path in (tmp_path / "w" / "checkpoints").iterdir()]
    assert len(steps) == 1 and 3 <= steps[0] < 500
    for index, (out, _) in enumerate(texts):
        assert f"[{index}/2] stopped by SIGTERM at step {steps[0]}: saved; run again" in out
