import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from retroguide_jax.checkpoints.integrity import DamagedCheckpointError
from retroguide_jax.checkpoints.saving import is_finished, list_steps, mark_finished
from retroguide_jax.errors import UserError
from retroguide_jax.evaluation import results
from retroguide_jax.evaluation.watch import wait_for_checkpoint, watch

PROTOCOL = "0123456789abcdef"


def add_checkpoint(workdir, step):
    """As Orbax does: writes under another name, then renames."""
    beside = workdir / "checkpoints" / f"{step}.orbax-checkpoint-tmp"
    beside.mkdir(parents=True)
    beside.rename(workdir / "checkpoints" / str(step))


def make_row(step):
    return {"step": step, "protocol_hash": PROTOCOL}


def list_scored(workdir):
    return [row["step"] for row in results.read_rows(workdir)]


def test_whole_checkpoints_are_listed(tmp_path):
    assert list_steps(tmp_path) == []
    for step in (300, 20):
        add_checkpoint(tmp_path, step)
    (tmp_path / "checkpoints" / "400.orbax-checkpoint-tmp").mkdir()
    assert list_steps(tmp_path) == [20, 300]


def test_the_end_is_reported_and_taken_back(tmp_path):
    assert not is_finished(tmp_path)
    mark_finished(tmp_path, 7)
    assert is_finished(tmp_path)
    assert json.loads((tmp_path / "finished.json").read_text()) == {"step": 7}
    mark_finished(tmp_path, None)
    assert not is_finished(tmp_path)


def test_each_checkpoint_is_scored_once_oldest_first(tmp_path):
    for step in (1, 2, 3):
        add_checkpoint(tmp_path, step)
    results.append_row(tmp_path, make_row(2))
    results.append_row(tmp_path, {"step": 3, "protocol_hash": "another"})
    scored = []

    def score(step):
        scored.append(step)
        if step == 1:  # training goes on meanwhile
            add_checkpoint(tmp_path, 4)
        if step == 4:
            mark_finished(tmp_path, 4)
        return make_row(step)

    assert watch(tmp_path, PROTOCOL, score, 0.01) == 3
    assert scored == [1, 3, 4]
    assert list_scored(tmp_path) == [2, 3, 1, 3, 4]


def test_a_checkpoint_that_training_deletes_is_reported(tmp_path, capsys):
    add_checkpoint(tmp_path, 1)
    add_checkpoint(tmp_path, 2)
    mark_finished(tmp_path, 2)

    def score(step):
        if step == 1:
            (tmp_path / "checkpoints" / "1").rmdir()
            raise UserError("cannot be read")
        return make_row(step)

    assert watch(tmp_path, PROTOCOL, score, 0.01) == 1
    assert "step 1: deleted by training" in capsys.readouterr().err
    assert list_scored(tmp_path) == [2]


def test_a_damaged_checkpoint_is_reported_and_left_out(tmp_path, capsys):
    add_checkpoint(tmp_path, 1)
    add_checkpoint(tmp_path, 2)
    mark_finished(tmp_path, 2)

    def score(step):
        if step == 1:
            raise DamagedCheckpointError(tmp_path / "checkpoints" / "1", "cut off")
        return make_row(step)

    assert watch(tmp_path, PROTOCOL, score, 0.01) == 1
    assert "step 1 is not scored" in capsys.readouterr().err
    assert list_scored(tmp_path) == [2]


def test_a_checkpoint_that_cannot_be_scored_is_an_error(tmp_path):
    add_checkpoint(tmp_path, 1)

    def score(step):
        raise UserError("the model has diverged")

    with pytest.raises(UserError, match="diverged"):
        watch(tmp_path, PROTOCOL, score, 0.01)


def test_two_watchers_of_one_protocol_are_refused(tmp_path):
    add_checkpoint(tmp_path, 1)
    mark_finished(tmp_path, 1)

    def score(step):
        with pytest.raises(UserError, match="another job watches"):
            watch(tmp_path, PROTOCOL, make_row, 0.01)
        other = {"protocol_hash": "another protocol"}
        assert watch(tmp_path, "another protocol", lambda s: make_row(s) | other, 0.01) == 1
        return make_row(step)

    assert watch(tmp_path, PROTOCOL, score, 0.01) == 1


def test_waiting_for_the_first_checkpoint(tmp_path):
    mark_finished(tmp_path, 0)
    with pytest.raises(UserError, match="left no checkpoint"):
        wait_for_checkpoint(tmp_path, 0.01)
    add_checkpoint(tmp_path, 5)
    assert wait_for_checkpoint(tmp_path, 0.01) == 5


WATCHER = """
import sys, time
from pathlib import Path
from retroguide_jax.evaluation.watch import watch

def score(step):
    time.sleep(0.02)
    return {"step": step, "protocol_hash": sys.argv[2], "text": "x" * 20_000}

print("ready", flush=True)
watch(Path(sys.argv[1]), sys.argv[2], score, 0.01)
"""


@pytest.mark.parametrize("num_kills", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_any_moment_no_row_is_lost_or_doubled(tmp_path, num_kills):
    script = tmp_path / "watcher.py"
    script.write_text(WATCHER)
    workdir = tmp_path / "work"
    last = 0
    rng = random.Random(num_kills)

    def start():
        command = [sys.executable, str(script), str(workdir), PROTOCOL]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path.cwd())
        assert process.stdout.readline() == b"ready\n"
        return process

    for _ in range(num_kills):
        process = start()
        until = time.monotonic() + rng.uniform(0.0, 0.4)
        while time.monotonic() < until:
            last += 1
            add_checkpoint(workdir, last)
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    mark_finished(workdir, last)
    process = start()
    process.communicate(timeout=120)
    assert process.returncode == 0
    assert sorted(list_scored(workdir)) == list(range(1, last + 1))
    assert len(list_scored(workdir)) == last > 0


def test_a_half_written_row_is_scored_again(tmp_path):
    for step in (1, 2):
        add_checkpoint(tmp_path, step)
    mark_finished(tmp_path, 2)
    path = results.append_row(tmp_path, make_row(1))
    line = json.dumps(make_row(2)).encode()
    whole = path.read_bytes()
    for cut in range(1, len(line) + 1):
        path.write_bytes(whole + line[:cut])
        # Where only the line break is missing, the row is there.
        assert watch(tmp_path, PROTOCOL, make_row, 0.01) == (cut < len(line))
        assert list_scored(tmp_path) == [1, 2]
