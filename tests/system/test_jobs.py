"""Several processes equal one process with as many devices, however often they are killed.

KILL_SEED=N repeats a sequence of kills, as far as timing allows.
"""

import itertools
import json
import os
import random
import shutil
import time

import jax
import numpy as np
import pytest
from local_jobs import (
    DESCEND,
    TINY_JOB,
    Job,
    assert_agree,
    list_steps,
    make_variables,
    read_rows,
    read_state,
    run_descent,
)

NUM_STEPS, EVERY = 30, 3
WHOM = ("one", "all", "parent")  # kill one process, all processes, or the script that started them
WHEN = ("start", "step", "save")


@pytest.fixture(scope="module")
def start_job(data_dir, tmp_path_factory):
    """Returns start_job(num_processes, command, *flags) -> Job."""
    logs, jobs = tmp_path_factory.mktemp("logs"), []

    def start(num_processes, *args, **program):
        log = logs / f"{len(jobs)}.log"
        jobs.append(Job(log, num_processes, *args, f"--data_dir={data_dir}", **program))
        return jobs[-1]

    yield start
    for job in jobs:
        job.kill(*job.find_pids().values())


@pytest.fixture(scope="module")
def flags(request):
    """Flags of the run that is killed; the embedder alone compiles in a third of the time."""
    numbers = (f"--config.train.num_steps={NUM_STEPS}", f"--config.train.checkpoint_every={EVERY}")
    return (f"--config={TINY_JOB}", f"--config.mode={request.param}", *numbers)


@pytest.fixture(scope="module")
def start_tiny(start_job, flags):
    """Returns start_tiny(workdir) -> Job: the command that is killed and repeated."""
    return lambda workdir: start_job(2, "train", *flags, f"--workdir={workdir}")


@pytest.fixture(scope="module")
def uninterrupted(start_tiny, tmp_path_factory):
    """The work directory of an undisturbed run, and the seconds to its first step."""
    workdir = tmp_path_factory.mktemp("runs") / "uninterrupted"
    started = time.monotonic()
    job = start_tiny(workdir)
    while job.read_step() == 0 and job.script.poll() is None:
        time.sleep(0.05)
    seconds = time.monotonic() - started
    assert job.wait() == 0, job.read()
    return workdir, seconds


@pytest.mark.parametrize("flags", ["contrastive"], indirect=True)
def test_two_processes_train_as_two_devices(uninterrupted, flags, run_command, data_dir, tmp_path):
    place = (f"--workdir={tmp_path / 'w'}", f"--data_dir={data_dir}")
    done = run_command("train", *flags, *place, **make_variables(2))
    assert done.returncode == 0, done.stderr
    assert "2 x cpu" in done.stdout
    assert_agree(uninterrupted[0], tmp_path / "w")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("num", "mode"),
    # Four processes sum in another order than four devices, and a new generator amplifies rounding
    # (docs/scale.md). A sum of two numbers has one order.
    [(2, "joint"), (4, "contrastive")],
)
def test_many_steps_and_their_evaluation(start_job, data_dir, tmp_path, num, mode):
    """No split is a multiple of the number of examples that the processes take at a time."""
    flags = ["--config=city_smoke", "--config.train.num_steps=50", "--config.eval.every=50"]
    flags += ["--config.train.checkpoint_every=50"]
    flags += [f"--config.mode={mode}"]
    flags += ["--config.data.train_split=train[9:]", "--config.data.val_split=train[:9]"]
    flags += ["--config.train.log_every=1"]
    job = start_job(num, "train", *flags, f"--workdir={tmp_path / 'processes'}", program=(DESCEND,))
    assert job.wait(900) == 0, job.read()
    place = (f"--workdir={tmp_path / 'devices'}", f"--data_dir={data_dir}")
    run_descent(num, "train", *flags, *place)
    assert_agree(tmp_path / "processes", tmp_path / "devices")

    score = ["--max_examples=15", "--batch_size=4", "--num_noises=1"]
    same = shutil.copytree(tmp_path / "processes", tmp_path / "same")
    job = start_job(num, "evaluate", f"--workdir={tmp_path / 'processes'}", *score)
    assert job.wait(900) == 0, job.read()
    job.wait_until_gone()
    run_descent(num, "evaluate", f"--workdir={same}", f"--data_dir={data_dir}", *score)
    metrics = [
        json.loads((workdir / "eval" / "results.jsonl").read_text())["metrics"]
        for workdir in (tmp_path / "processes", same)
    ]
    assert metrics[0].keys() == metrics[1].keys()
    for name, metric in metrics[0].items():
        # Images of 8 bits, as in `assert_agree`.
        assert metric == pytest.approx(metrics[1][name], rel=1e-5), name


def list_unfinished(workdir):
    folder = workdir / "checkpoints"
    return {p.name for p in folder.iterdir() if "tmp" in p.name} if folder.is_dir() else set()


def wait_for(when, job, workdir, rng, start_seconds):
    """Returns at a random moment of the kind `when`, or when the job has ended by itself."""
    delay = rng.uniform(0, start_seconds if when == "start" else 0.5)
    num_steps = rng.randint(1, 2 * EVERY)
    before, begun = list_unfinished(workdir), time.monotonic()

    def has_come():
        steps = job.read_step() - (job.read_start() or 0)
        return {
            "start": steps >= 1 or time.monotonic() - begun >= delay,
            "step": steps >= num_steps,
            "save": list_unfinished(workdir) - before,
        }[when]

    while not has_come() and job.script.poll() is None:
        time.sleep(0.002)
    if when != "start":
        time.sleep(delay)


def kill(whom, job, rng):
    """Kills, and waits until no process of the job is left; returns the seconds that this took."""
    pids = job.find_pids()
    trainers = [pid for name, pid in sorted(pids.items()) if name.isdecimal()]
    begun = time.monotonic()
    if whom == "parent":
        job.kill(job.script.pid)
        job.wait()
        job.kill(*job.find_pids().values())
    elif trainers:
        job.kill(*(trainers if whom == "all" else [rng.choice(trainers)]))
    else:  # so early that only the script exists
        job.kill(*pids.values())
    job.wait(timeout=120)
    job.wait_until_gone()
    return time.monotonic() - begun


def choose_kinds(rng, num_kills):
    """(whom, when) of each kill: every pair once, in random order, before one is repeated."""
    pairs = list(itertools.product(WHOM, WHEN))
    rounds = (rng.sample(pairs, len(pairs)) for _ in itertools.count())
    return list(itertools.islice(itertools.chain.from_iterable(rounds), num_kills))


@pytest.mark.parametrize(
    ("flags", "num_kills"),
    [("contrastive", 1), pytest.param("joint", 30, marks=pytest.mark.slow)],
    indirect=["flags"],
)
def test_a_killed_job_resumes_bitwise(start_tiny, uninterrupted, tmp_path, num_kills):
    wanted, start_seconds = uninterrupted
    seed = int(os.environ.get("KILL_SEED") or random.randrange(2**32))
    print(f"KILL_SEED={seed}")
    rng = random.Random(seed)
    kinds, num_in_save = choose_kinds(rng, num_kills), 0
    for number in itertools.count():
        workdir, saved, finished = tmp_path / str(number), 0, False
        while not finished:
            job = start_tiny(workdir)
            if kinds:
                wait_for(kinds[0][1], job, workdir, rng, start_seconds)
            finished = not kinds or job.script.poll() is not None
            if finished:
                assert job.wait() == 0, job.read()
            else:
                whom, when = kinds.pop(0)
                in_save = bool(list_unfinished(workdir))
                num_in_save += in_save
                seconds = kill(whom, job, rng)
            # Every saved checkpoint is resumed from, and every due checkpoint was saved.
            assert job.read_start() in (None, saved), job.read()
            saved, printed = max(list_steps(workdir), default=0), job.read_step()
            assert saved >= (printed - 1) // EVERY * EVERY, job.read()
            if not finished:
                print(
                    f"killed {whom} at {when}, in a save: {in_save}; from {job.read_start()}, "
                    f"printed {printed}, saved {saved}; all gone after {seconds:.1f} s"
                )
        jax.tree.map(
            np.testing.assert_array_equal, *(read_state(w, NUM_STEPS) for w in (workdir, wanted))
        )
        assert read_rows(workdir) == read_rows(wanted)
        assert not [path for path in workdir.rglob("*tmp*")]
        print(f"run {number} ended as the uninterrupted one")
        if not kinds:
            break
    assert num_kills < 9 or num_in_save > 0
