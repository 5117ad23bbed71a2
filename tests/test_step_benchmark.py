"""benchmarks/step.py on the smallest networks, with the twin if torch is installed."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from compiling import FAST

from retroguide_jax.config import load_config
from retroguide_jax.schedule import Schedule

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "tests" / "system" / "tiny_job.py"


@pytest.fixture
def run_step():
    """Returns run(*flags) -> what it printed."""

    def run(*flags):
        command = [sys.executable, str(ROOT / "benchmarks" / "step.py"), f"--config={CONFIG}"]
        variables = os.environ | {"XLA_FLAGS": FAST, "PYTHONPATH": str(ROOT / "tests")}
        done = subprocess.run(
            [*command, *flags], env=variables, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


WORKS = ("step", "embedder", "D", "G", "R1", "generate 1", "generate 32", "embed 32")


@pytest.mark.parametrize("works", [("D", "embed 32"), pytest.param(WORKS, marks=pytest.mark.slow)])
def test_works_are_timed_by_turns(run_step, works, tmp_path):
    has_torch = importlib.util.find_spec("torch") is not None
    path = tmp_path / "results.json"
    quick = (f"--works={','.join(works)}", "--num_rounds=2", "--seconds=0.01", f"--json={path}")
    printed = run_step(*quick, f"--twins={'eager' if has_torch else ''}")
    results = json.loads(path.read_text())
    sides = {"ours", "eager"} if has_torch else {"ours"}
    if "step" in works:
        peaks = results.pop("peak_bytes")
        assert peaks.keys() == sides and min(peaks.values()) > 1e8
    assert list(results) == list(works)
    for work, times in results.items():
        assert f"\n{work} " in printed
        assert times["seconds"].keys() == times["first"].keys() == sides
        assert all(len(rounds) == 2 and min(rounds) > 0 for rounds in times["seconds"].values())
        ratios = times["ratios"]
        if has_torch:
            pairs = zip(times["seconds"]["eager"], times["seconds"]["ours"], strict=True)
            assert ratios == pytest.approx([theirs / ours for theirs, ours in pairs])
        else:
            assert not ratios


def test_the_timed_step_updates_the_discriminator(import_benchmark):
    fields = ("mode=joint", "train.contrastive_warmup_steps=3", "train.structure_steps=2")
    config = load_config(str(CONFIG), [f"--config.{field}" for field in fields])
    images = {view: np.zeros((2, *config.data[f"{view}_size"], 3)) for view in ("aerial", "ground")}
    side = import_benchmark("speed.ours").Side(config, images)
    assert Schedule(config).is_due("discriminator", int(side.state.step))


@pytest.mark.slow
def test_the_first_step_is_timed_with_and_without_a_cache(run_step, tmp_path):
    path = tmp_path / "results.json"
    run_step("--first_step", "--twins=", f"--json={path}")
    (results,) = json.loads(path.read_text()).values()
    assert 0 < results["warm"] < results["cold"]
