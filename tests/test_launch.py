"""The launch scripts print exactly the commands that they would run; local_cpu.sh runs them."""

import configparser
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from docs_commands import PAGES

from retroguide_jax.commands import COMMANDS

LAUNCH = Path(__file__).parents[1] / "launch"
SCRIPTS = sorted(path.name for path in LAUNCH.iterdir() if path.suffix in (".sh", ".sbatch"))
# Command prefix that kills a process when its parent ends, if the system has it.
GUARD = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
TPU_VM = "gcloud compute tpus tpu-vm"
# Replaces `retroguide`: prints what one process of a job sees of the others.
JOIN = """
import os, time
from retroguide_jax.parallel.processes import join_processes
join_processes()
import jax
print(f"I am {jax.process_index()} of {jax.process_count()}", flush=True)
"""


def run_script(script, *args, **env):
    return subprocess.run(
        ["bash", LAUNCH / script, *args],
        env={"PATH": "/usr/bin:/bin"} | env,
        capture_output=True,
        text=True,
        timeout=120,
    )


def dry_run(script, *args, **env):
    """The words of every command."""
    result = run_script(script, *args, DRY_RUN="1", **env)
    assert result.returncode == 0, result.stderr
    assert all(line.startswith("+ ") for line in result.stdout.splitlines())
    return [shlex.split(line)[1:] for line in result.stdout.splitlines()]


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_are_sound(script):
    checks = [["bash", "-n"]]
    if shutil.which("shellcheck"):
        checks.append(["shellcheck"])
    for check in checks:
        found = subprocess.run([*check, LAUNCH / script], capture_output=True, text=True)
        assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_opens_with_what_it_is_and_stops_at_errors(script):
    text = (LAUNCH / script).read_text()
    assert text.startswith("#!/usr/bin/env bash\n# ")
    assert f"launch/{script}" in text.partition("\nset -euo pipefail\n")[0]
    assert "DRY_RUN" in text.partition("\nset -euo pipefail\n")[0]


@pytest.mark.parametrize("script", [*SCRIPTS, "Dockerfile"])
def test_the_readme_names_every_script(script):
    assert f"]({script})" in (LAUNCH / "README.md").read_text()


@pytest.mark.smoke
def test_the_demo_builds_trains_measures_and_reports_in_one_folder():
    assert [" ".join(words) for words in dry_run("city_demo.sh", "runs/x", "--config.seed=3")] == [
        "retroguide data build procedural_city --config_name=city_64",
        "retroguide train --config=city --workdir=runs/x --config.seed=3",
        "retroguide evaluate --workdir=runs/x --judge=pretrained:city_judge_saig "
        "--judge=pretrained:city_judge_convnext",
        "retroguide report --workdir=runs/x",
    ]


def test_a_release_scores_the_rounded_weights_and_packs_those():
    words = dry_run("release_weights.sh", "runs/x", "city", "--judge=pretrained:judge")
    place = LAUNCH.parent / "retroguide_jax" / "pretrained" / "city"
    half = "--dtype=float16 --license=Apache-2.0"
    assert [" ".join(line) for line in words] == [
        "rm -rf runs/x/packed/city",
        f"retroguide weights export --workdir=runs/x {half} --output=runs/x/packed/city",
        "retroguide evaluate --workdir=runs/x/packed/city --judge=pretrained:judge",
        f"rm -rf {place}",
        f"retroguide weights export --workdir=runs/x/packed/city {half} --output={place}",
    ]
    assert run_script("release_weights.sh", "runs/x").returncode == 2


def test_the_demo_has_a_default_folder():
    assert dry_run("city_demo.sh")[-1] == ["retroguide", "report", "--workdir=runs/city"]


def test_the_demo_takes_no_flag_for_its_folder():
    asked = run_script("city_demo.sh", "--help", DRY_RUN="1")
    assert (asked.returncode, asked.stdout) == (2, "") and "usage: city_demo.sh" in asked.stderr


def test_the_readme_runs_the_demo_script():
    readme = (LAUNCH.parent / "README.md").read_text()
    assert "bash launch/city_demo.sh runs/city" in readme


def test_local_processes_share_a_free_port():
    commands = dry_run("local_cpu.sh", "3", "train", "--config=city_smoke", "--workdir=my runs")
    ports = {
        re.fullmatch(r"JAX_COORDINATOR_ADDRESS=127\.0\.0\.1:(2\d{4})", command[3]).group(1)
        for command in commands
    }
    assert len(ports) == 1
    assert [command[:3] + command[4:] for command in commands] == [
        [
            "env", "JAX_PLATFORMS=cpu", "PYTHONUNBUFFERED=1",
            "JAX_NUM_PROCESSES=3", f"JAX_PROCESS_ID={process}", *GUARD,
            "retroguide", "train", "--config=city_smoke", "--workdir=my runs",
        ]
        for process in range(3)
    ]  # fmt: skip


@pytest.mark.parametrize("args", [(), ("2",), ("two", "train"), ("0", "train")])
def test_local_processes_need_a_number_and_a_command(args):
    result = run_script("local_cpu.sh", *args)
    assert result.returncode == 2
    assert "usage: local_cpu.sh NUM_PROCESSES COMMAND" in result.stderr


def test_local_processes_get_their_numbers():
    code = (
        "import os\n"
        "numbers = [os.environ[f'JAX_{name}'] for name in ('PROCESS_ID', 'NUM_PROCESSES')]\n"
        "os.write(1, ' of '.join(numbers).encode() + b'\\n')"  # whole: they share a pipe
    )
    result = run_script("local_cpu.sh", "2", "-c", code, RETROGUIDE=sys.executable)
    assert result.returncode == 0, result.stderr
    assert sorted(result.stdout.splitlines()) == ["0 of 2", "1 of 2"]


def test_joined_processes_end_with_the_first_that_fails():
    """SIGTERM must end the sleeping process, although JAX handles that signal itself."""
    code = JOIN + "os._exit(7) if jax.process_index() == 1 else time.sleep(100)"
    # So long that only the signal, and not the end of the patience, can end the test in time.
    env = {"RETROGUIDE": sys.executable, "GRACE_SECONDS": "90"}
    began = time.monotonic()
    result = run_script("local_cpu.sh", "2", "-c", code, **env)
    assert time.monotonic() - began < 80
    assert result.returncode == 7
    assert "[0/2] I am 0 of 2" in result.stdout
    assert "[1/2] I am 1 of 2" in result.stdout
    assert "[1/2] ended with exit code 7: ending the others" in result.stderr


@pytest.mark.skipif(not GUARD, reason="needs setpriv of util-linux")
def test_processes_end_with_the_script(tmp_path):
    pids = [tmp_path / name for name in "01"]
    code = (
        "import os, pathlib, time\n"
        f"folder = pathlib.Path({str(tmp_path)!r})\n"
        "(folder / os.environ['JAX_PROCESS_ID']).write_text(str(os.getpid()))\n"
        "time.sleep(100)"
    )
    command = ["bash", LAUNCH / "local_cpu.sh", "2", "-c", code]
    with subprocess.Popen(command, env=os.environ | {"RETROGUIDE": sys.executable}) as script:
        while not all(path.exists() and path.read_text() for path in pids):
            time.sleep(0.05)
        script.kill()
    deadline = time.monotonic() + 30
    while any(is_running(int(path.read_text())) for path in pids):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_running(pid):
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def test_a_process_that_does_not_end_is_killed():
    code = (
        "import os, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "sys.exit(3) if os.environ['JAX_PROCESS_ID'] == '0' else time.sleep(100)"
    )
    env = {"RETROGUIDE": sys.executable, "GRACE_SECONDS": "1"}
    began = time.monotonic()
    assert run_script("local_cpu.sh", "2", "-c", code, **env).returncode == 3
    assert time.monotonic() - began < 80


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_whole_group_reaches_processes_once(number):
    """A second SIGTERM would make training exit without saving."""
    code = (
        "import os, signal, sys, time\n"
        "me = os.environ['JAX_PROCESS_ID']\n"
        "caught = []\n"
        "signal.signal(signal.SIGTERM, lambda *_: caught.append(1))\n"
        "os.write(1, f'{me} up\\n'.encode())\n"
        "while not caught: time.sleep(0.01)\n"
        "time.sleep(0.5)\n"
        "os.write(1, f'{me} {len(caught)} signal(s)\\n'.encode())\n"
        "sys.exit(143)"
    )
    job = subprocess.Popen(
        ["bash", LAUNCH / "local_cpu.sh", "2", "-c", code],
        env={"PATH": "/usr/bin:/bin", "RETROGUIDE": sys.executable},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A test suite started in the background ignores SIGINT, and a shell inherits that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    with job:
        up = sorted(job.stdout.readline() for _ in range(2))
        os.killpg(job.pid, number)
        rest = sorted(job.stdout.read().splitlines())
    assert up == ["0 up\n", "1 up\n"]
    assert rest == ["0 1 signal(s)", "1 1 signal(s)"]
    assert job.returncode == 143


def test_a_tpu_slice_is_made_and_deleted():
    assert dry_run("tpu_vm.sh", "create", "pod", "v5litepod-64", ZONE="z") == [
        [*TPU_VM.split(), "create", "pod", "--zone=z", "--accelerator-type=v5litepod-64",
         "--version=v2-alpha-tpuv5-lite"],
    ]  # fmt: skip
    created = dry_run("tpu_vm.sh", "create", "p", "v6e-8", ZONE="z", VERSION="v", SPOT="1")
    assert created[0][-2:] == ["--version=v", "--spot"]
    assert dry_run("tpu_vm.sh", "delete", "pod", ZONE="z") == [
        [*TPU_VM.split(), "delete", "pod", "--zone=z"]
    ]


def test_a_tpu_slice_is_reached_on_all_workers():
    copy = dry_run("tpu_vm.sh", "copy", "pod", ZONE="z")
    run = dry_run("tpu_vm.sh", "run", "pod", "retroguide", "train", "--workdir=my runs", ZONE="z")
    archive = str(LAUNCH.parent / ".cache" / "retroguide_jax.tar.gz")
    assert copy[1] == ["git", "-C", str(LAUNCH.parent), "archive", f"--output={archive}", "HEAD"]
    assert copy[2][:6] == [*TPU_VM.split(), "scp", archive]
    reached = [command for command in copy + run if command[0] == "gcloud"]
    assert len(reached) == 4
    assert all("--worker=all" in command and "--zone=z" in command for command in reached)
    remote = shlex.split(run[0][-1].removeprefix("--command="))
    assert remote[-4:] == ["exec", "retroguide", "train", "--workdir=my runs"]


@pytest.mark.parametrize(
    ("args", "env", "message"),
    [
        (("run", "pod", "ls"), {}, "set ZONE"),
        (("create", "pod"), {"ZONE": "z"}, "create needs an accelerator type"),
        (("run", "pod"), {"ZONE": "z"}, "run needs a program"),
        (("stop", "pod"), {"ZONE": "z"}, "usage: tpu_vm.sh create|copy|run|delete"),
    ],
)
def test_wrong_use_of_a_tpu_slice_is_reported(args, env, message):
    result = run_script("tpu_vm.sh", *args, DRY_RUN="1", **env)
    assert (result.returncode, result.stdout) == (2, "")
    assert message in result.stderr


def test_a_gke_workload_restarts_and_passes_signals_on():
    place = {"CLUSTER": "c", "ZONE": "z", "TPU_TYPE": "v5litepod-256", "IMAGE": "i"}
    flag = "--config.data.aerial_size=(64, 64)"
    (command,) = dry_run("gke_xpk.sh", "w", "train", flag, NUM_SLICES="2", STORAGE="s", **place)
    assert command[:-1] == [
        "xpk", "workload", "create", "--cluster=c", "--zone=z", "--workload=w",
        "--tpu-type=v5litepod-256", "--num-slices=2", "--docker-image=i", "--max-restarts=100",
        "--termination-grace-period-seconds=300", "--storage=s",
    ]  # fmt: skip
    remote = shlex.split(command[-1].removeprefix("--command="))
    assert remote == ["exec", "retroguide", "train", flag]
    del place["IMAGE"]
    result = run_script("gke_xpk.sh", "w", "train", DRY_RUN="1", **place)
    assert result.returncode == 2
    assert "set IMAGE" in result.stderr


def test_slurm_runs_one_step_over_all_tasks():
    assert dry_run("slurm.sbatch", "train", "--workdir=w", SLURM_CPUS_PER_TASK="8") == [
        ["srun", "--kill-on-bad-exit=0", "--wait=300", "--cpus-per-task=8",
         "retroguide", "train", "--workdir=w"],
    ]  # fmt: skip
    # Slurm reads its lines up to the first command only.
    head = (LAUNCH / "slurm.sbatch").read_text().partition("\nset -euo")[0].splitlines()
    assert {"#SBATCH --requeue", "#SBATCH --signal=TERM@300"} <= set(head)


@pytest.mark.parametrize(
    ("status", "is_requeued"), [(0, False), (1, False), (142, True), (143, True)]
)
def test_slurm_requeues_what_was_reported_to_end_or_got_stuck(tmp_path, status, is_requeued):
    for name, text in {"srun": f"exit {status}", "scontrol": 'echo "asked: $*"'}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}:/usr/bin:/bin"
    result = run_script("slurm.sbatch", "train", PATH=path, SLURM_JOB_ID="17")
    assert result.returncode == status
    assert ("asked: requeue 17" in result.stdout) == is_requeued


def test_the_image_installs_an_extra_that_exists():
    extra = re.search(r"^ARG EXTRA=(\w+)$", (LAUNCH / "Dockerfile").read_text(), re.M).group(1)
    setup = configparser.ConfigParser()
    setup.read(LAUNCH.parent / "setup.cfg")
    assert {extra, "cuda13"} <= set(setup["options.extras_require"])


def test_the_commands_of_the_pages_exist():
    texts = [*LAUNCH.iterdir(), LAUNCH.parent / "docs" / "scale.md"]
    named = {
        name for text in texts for name in re.findall(r"\bretroguide (\w+) -", text.read_text())
    }
    assert {"train", "evaluate"} <= named <= set(COMMANDS)


LINES = {
    line
    for page in PAGES
    for line in re.findall(r"^(?:\w+=\S+ )*bash launch/.*$", page.read_text(), re.MULTILINE)
}


@pytest.mark.parametrize("line", sorted(LINES))
def test_the_scripts_take_the_lines_of_the_pages(line):
    result = subprocess.run(
        ["bash", "-c", line],
        cwd=LAUNCH.parent,
        env={"PATH": "/usr/bin:/bin", "DRY_RUN": "1"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert re.search(r"\bretroguide\\? (evaluate|train)", result.stdout)
