"""Jobs of several processes as users start them, and their results."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from compiling import make_xla_flags

from retroguide_jax.training.speed import SPEEDS

TESTS = Path(__file__).resolve().parents[1]
LOCAL_CPU = TESTS.parent / "launch" / "local_cpu.sh"
TINY_JOB = TESTS / "system" / "tiny_job.py"
DESCEND = TESTS / "system" / "descend.py"


def make_variables(num_devices=1):
    """Makes processes find TINY_JOB's networks, simulate this many devices and compile fast."""
    paths = [str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(paths), "XLA_FLAGS": make_xla_flags(num_devices)}


class Job:
    """`bash launch/local_cpu.sh NUM_PROCESSES ...`, distinguished from other jobs by a variable."""

    def __init__(self, log, num_processes, *args, program=("-m", "retroguide_jax")):
        self.log, self.mark = log, f"TESTED_JOB={uuid.uuid4().hex}".encode()
        name, _, value = self.mark.decode().partition("=")
        variables = {name: value, "RETROGUIDE": sys.executable, "GRACE_SECONDS": "20"}
        with log.open("w") as output:
            self.script = subprocess.Popen(
                ["bash", LOCAL_CPU, str(num_processes), *map(str, (*program, *args))],
                env=os.environ | make_variables() | variables,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def find_pids(self) -> dict[str, int]:
        """The job's living processes: "0", "1", ... by their number, and others by their pid."""
        found = {}
        for place in Path("/proc").glob("[0-9]*"):
            try:
                variables = (place / "environ").read_bytes().split(b"\0")
            except OSError:  # ended meanwhile
                continue
            if self.mark in variables:
                numbers = [v for v in variables if v.startswith(b"JAX_PROCESS_ID=")]
                name = numbers[0].partition(b"=")[2].decode() if numbers else f"pid {place.name}"
                found[name] = int(place.name)
        return found

    def kill(self, *pids) -> None:
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def wait(self, timeout=300) -> int:
        """The exit status; a job that takes longer is killed and is an error."""
        try:
            return self.script.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"not ended after {timeout} s:\n{self.read()}") from None
        finally:
            if self.script.poll() is None:
                self.kill(*self.find_pids().values())
                self.script.wait()

    def wait_until_gone(self, timeout=10) -> None:
        """Asserts that no process of the job is left."""
        end = time.monotonic() + timeout
        while left := self.find_pids():
            assert time.monotonic() < end, f"left running: {left}\n{self.read()}"
            time.sleep(0.05)

    def read(self) -> str:
        return self.log.read_text()

    def read_start(self) -> int | None:
        """The step that the run resumed from, once it is printed."""
        match = re.search(r"; from step (\d+) to", self.read())
        return match and int(match[1])

    def read_step(self) -> int:
        """The last step printed; 0 before the first."""
        return max(map(int, re.findall(r"step (\d+)/", self.read())), default=0)


def run_descent(num_devices, *args):
    """Trains by gradient descent in one process on this many devices; returns its output."""
    done = subprocess.run(
        [sys.executable, DESCEND, *map(str, args)],
        env=os.environ | make_variables(num_devices),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def read_state(workdir, step):
    """Every array of a checkpoint as NumPy's, whatever devices it was saved on."""
    state = {}
    with ocp.PyTreeCheckpointer() as reader:
        for item in ("model", "trainer"):
            folder = workdir.absolute() / "checkpoints" / str(step) / item
            tree = reader.metadata(folder).item_metadata.tree
            host = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
            state |= reader.restore(folder, args=ocp.args.PyTreeRestore(restore_args=host))
    return state


def list_steps(workdir):
    """Steps of the complete checkpoints; none before their folder exists."""
    names = [path.name for path in (workdir / "checkpoints").glob("*")]
    return sorted(int(name) for name in names if name.isdecimal())


def read_rows(workdir):
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    # A resumed run has no earlier guide to compare with.
    passing = (*SPEEDS, "guide/drift")
    return [{k: v for k, v in row.items() if k not in passing} for row in rows]


def assert_agree(workdir, expected):
    """States, to 1e-5 of a leaf's largest value, or of 1 if that is less; losses, to 1e-5; scores,
    to 1e-5 or 1e-5 of their value: they are of images of 8 bits, in which a colour that rounding
    moved by 1e-7 may be another one.
    """
    step = max(list_steps(expected))
    found, wanted = read_state(workdir, step), read_state(expected, step)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(
            a, b, rtol=0, atol=1e-5 * max(1, np.abs(b).max(initial=0))
        ),
        found,
        wanted,
    )
    for row, other in zip(read_rows(workdir), read_rows(expected), strict=True):
        assert row.keys() == other.keys()
        for name, value in row.items():
            least = 1e-5 if name.startswith("val/") else 1e-6
            assert value == pytest.approx(other[name], rel=1e-5, abs=least, nan_ok=True), name
