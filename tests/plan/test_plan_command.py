"""`retroguide plan` as it is typed; with the TPU compiler where it is installed."""

import importlib.util
import json
import signal
import subprocess
import sys

import pytest

# Importing its parent fails where JAX has no plugin at all.
HAS_GPU_COMPILER = importlib.util.find_spec("jax_plugins") is not None
HAS_COMPILER = importlib.util.find_spec("libtpu") is not None
needs_compiler = pytest.mark.skipif(not HAS_COMPILER, reason="libtpu is not installed")

CONFIG = """
from pathlib import Path
import sys
sys.path.insert(0, {tests!r})
def get_config():
    from tiny import make_tiny_config
    config = make_tiny_config()
    config.unlock()
    return config
"""


@pytest.fixture
def config_file(tmp_path, request):
    file = tmp_path / "tiny_config.py"
    file.write_text(CONFIG.format(tests=str(request.config.rootpath / "tests")))
    return file


PREPARE = """
import sys
from retroguide_jax.__main__ import main
from retroguide_jax.plan import topology
topology.prepare_environment = lambda name: sys.exit(4 if "jax" in sys.modules else 3)
main(["plan", "--config=city_smoke", "--topology=v5e:1x1"])
"""


def test_jax_is_imported_after_its_environment_is_set():
    """JAX reads its platforms once; with others than `cpu` it would look for GPU libraries."""
    done = subprocess.run([sys.executable, "-c", PREPARE], capture_output=True, text=True)
    assert done.returncode == 3, done.stderr


@pytest.mark.skipif(HAS_COMPILER, reason="libtpu is installed")
def test_without_the_compiler_it_says_what_to_install(run_command):
    done = run_command("plan", "--config=city_smoke", "--topology=v5e:2x2")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "pip install 'retroguide_jax[plan]'" in done.stderr


@pytest.mark.skipif(HAS_GPU_COMPILER, reason="a plugin of JAX is installed")
def test_without_the_compiler_for_gpus_it_says_what_to_install(run_command):
    done = run_command("plan", "--config=city_smoke", "--topology=h100:8")
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert "pip install jax-cuda13-plugin==" in done.stderr


@pytest.mark.skipif(not HAS_GPU_COMPILER, reason="no plugin of JAX is installed")
@pytest.mark.parametrize("topology", ["h100", "h100:2x4", "h200:16"])
def test_gpus_are_those_of_one_host(run_command, topology):
    done = run_command("plan", "--config=city_smoke", f"--topology={topology}")
    assert done.returncode == 1 and done.stderr.startswith(f"error: --topology={topology}")


@needs_compiler
@pytest.mark.parametrize("topology", ["v9:2x2", "v5e", "v5e:3x7"])
def test_unknown_topologies_are_reported_in_one_line(run_command, topology):
    done = run_command("plan", "--config=city_smoke", f"--topology={topology}")
    assert done.returncode == 1 and done.stderr.startswith(f"error: --topology={topology}")
    assert len(done.stderr.splitlines()) == 1


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize(("topology", "num"), [("v5e:2x2", 4), ("v5p:2x2x2", 8)])
def test_a_small_config_is_planned(run_command, config_file, tmp_path, topology, num):
    arguments = ["plan", f"--config={config_file}", f"--topology={topology}", "--fast"]
    arguments += ["--per_device_batch=2", "--skip_evaluation", f"--cache={tmp_path / 'kept'}"]
    done = run_command(*arguments, f"--json={tmp_path / 'plan.json'}", timeout=1800)
    assert done.returncode == 0, done.stderr
    plan = json.loads((tmp_path / "plan.json").read_text())
    assert plan["fits"] and plan["num_devices"] == num and plan["batch_size"] == 2 * num
    assert 0 < plan["hbm_bytes"]["total"] < plan["hbm_limit_bytes"]
    assert plan["collectives"]["all-reduce"]["bytes"] > plan["hbm_bytes"]["parameters"]
    assert plan["flops_per_device"] <= plan["flops_by_compiler"]
    assert 0 < plan["predicted"]["scaling_efficiency"] <= 1
    assert "PREDICTION" in done.stdout and "Traceback" not in done.stderr
    again = run_command(*arguments)
    assert again.stdout == done.stdout, "the second time, what was kept is read"


COMPILE = """
import hashlib
from retroguide_jax.commands import plan
with plan._ending_at_once():
    print("compiling", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)  # minutes in C, as the compiler
"""


def test_ctrl_c_ends_a_compilation_at_once():
    process = subprocess.Popen([sys.executable, "-c", COMPILE], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"compiling\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == -signal.SIGINT
