"""Common setup of all tests: eight simulated CPU devices, a compilation cache, the command line."""

import fcntl
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags
from compiling import FAST, make_xla_flags

ROOT = Path(__file__).resolve().parents[1]

# The variables below are read when jax is first imported, which must happen after this file.
assert "jax" not in sys.modules, "jax was imported before tests/conftest.py could set it up"
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("XLA_FLAGS", make_xla_flags(8))
# Most of the suite's time is compilation: keep compiled programs between runs.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")

# Grain reads absl flags, which pytest does not parse.
flags.FLAGS.mark_as_parsed()


# Folders with the slowest files: if these started last, all cores but one would be idle at the end.
FIRST = ("system", "training", "checkpoints", "demo", "report")


def pytest_collection_modifyitems(items):
    """Runs slow files first."""
    items.sort(key=lambda item: not set(FIRST) & set(item.path.parts))


@pytest.fixture(scope="session")
def make_once(tmp_path_factory):
    """Returns make_once(name, fill_fn) -> a folder that one worker fills and all of them use."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent

    def make(name, fill_fn):
        folder, filled = shared / name, shared / f"{name}.filled"
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not filled.exists():
                fill_fn(folder)
                filled.touch()
        return folder

    return make


@pytest.fixture(scope="session")
def run_command():
    """Returns run(*args, cwd=, timeout=, **env) -> CompletedProcess: runs `retroguide` as users do.

    It runs in a process of its own, on one device, and its text output is captured.
    """

    def run(*args, cwd=None, timeout=300, **env):
        variables = os.environ | {"XLA_FLAGS": FAST}
        return subprocess.run(
            [sys.executable, "-m", "retroguide_jax", *map(str, args)],
            cwd=cwd,
            timeout=timeout,
            env=variables | env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )

    return run


@pytest.fixture
def import_benchmark(monkeypatch):
    """Returns import_benchmark(name) -> the module benchmarks/NAME.py."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module
