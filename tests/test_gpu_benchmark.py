"""benchmarks/gpu.py: results that it keeps at the deadline, and a CPU run on tiny networks."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from compiling import FAST

from retroguide_jax.config import load_config

ROOT = Path(__file__).parents[1]
GPU = ROOT / "benchmarks" / "gpu.py"
CONFIG = ROOT / "tests" / "system" / "tiny_job.py"
# All but `compiled`, which is step.py with another switch and needs a slow C++ compiler.
NAMES = ["machine", "parity", "eager", "train", "evaluate"]


@pytest.fixture(scope="module")
def gpu():
    """The module."""
    spec = importlib.util.spec_from_file_location("gpu", GPU)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_was_printed_is_kept_when_time_ends(gpu, tmp_path):
    def make(name, text, until):
        return gpu.Part(name, [sys.executable, "-uc", text], until, {"WORD": name})

    slow = "import os, time; print(os.environ['WORD']); time.sleep(60)"
    parts = [make("fails", "1 / 0", 0.3), make("hangs", slow, 0.6), make("train", slow, 0.9)]
    path = tmp_path / "gpu.json"
    results = gpu.run_parts(parts, 6.0, path)
    assert json.loads(path.read_text()) == results
    assert list(results) == ["fails", "hangs", "train"]
    assert (
        results["fails"]["status"] == 1 and "ZeroDivisionError" in results["fails"]["printed"][-1]
    )
    assert results["hangs"]["status"] != 0 and results["hangs"]["ended_by_time"]
    # Training runs until its deadline.
    assert results["train"]["status"] == 0 and results["train"]["ended_by_time"]
    assert [results[name]["printed"][0] for name in ("hangs", "train")] == ["hangs", "train"]
    assert sum(result["seconds"] for result in results.values()) < 30


def test_the_short_run_is_one_of_the_config(gpu):
    config = load_config("city_256", gpu.SHORT_RUN)
    first = config.train.contrastive_warmup_steps, config.train.structure_steps
    assert all(first) and sum(first) <= 500 and config.dtype == "bfloat16"


def test_the_machine_is_measured(gpu):
    done = subprocess.run(
        [sys.executable, str(GPU), "--measure_machine"], capture_output=True, text=True, timeout=300
    )
    machine = json.loads(done.stdout)
    assert machine["jax"] and machine["device"]
    assert machine["bfloat16_tflops"] > 0 and machine["memory_gb_per_second"] > 0


# Every part compiles a program of its own, which takes minutes on two cores.
@pytest.mark.slow
def test_all_parts_on_a_cpu(tmp_path, run_command):
    pytest.importorskip("torch")
    build = ["data", "build", "procedural_city", "--config_name=city_smoke"]
    assert run_command(*build, f"--data_dir={tmp_path}", timeout=600).returncode == 0
    command = [sys.executable, str(GPU), f"--config={CONFIG}", f"--out={tmp_path / 'out'}"]
    # Short enough, but with images to generate and to score.
    command += [
        "--minutes=40",
        f"--parts={','.join(NAMES)}",
        "--works=embed 32",
        f"--data_dir={tmp_path}",
    ]
    command += ["--config.train.num_steps=4", "--config.train.contrastive_warmup_steps=0"]
    variables = os.environ | {"XLA_FLAGS": FAST, "PYTHONPATH": str(ROOT / "tests")}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=2400)
    results = json.loads((tmp_path / "out" / "gpu.json").read_text())
    assert list(results) == NAMES
    failed = {name: part["printed"][-5:] for name, part in results.items() if part["status"]}
    assert not failed and done.returncode == 0
    steps = json.loads((tmp_path / "out" / "parity.json").read_text())["steps"]
    exact = [line for line in steps if line["run"] == "float64"]
    differences = [value for line in exact for value in (line["metrics"], *line["params"].values())]
    # NaN marks values that are not compared in the first step.
    assert max(value for value in differences if value == value) < 1e-6
    assert (tmp_path / "out" / "run" / "eval" / "results.jsonl").stat().st_size
