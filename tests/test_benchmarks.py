"""The benchmarks of metrics, on a few small images and without the tools for comparison."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from compiling import FAST
from PIL import Image

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
MODULES = ["skimage", "torchmetrics", "pytorch_fid", "torch_fidelity", "cleanfid", "lpips"]
TOOLS = ["scikit-image", "torchmetrics", "pytorch-fid", "torch-fidelity", "clean-fid", "lpips"]
# None in sys.modules is a package that cannot be found.
WITHOUT_TOOLS = f"""
import runpy, sys
folder, name, *_ = sys.argv[1:]
sys.modules.update(dict.fromkeys({MODULES}))
sys.path.insert(0, folder)
sys.argv[:3] = [name]
runpy.run_path(f"{{folder}}/{{name}}.py", run_name="__main__")
"""


@pytest.fixture(scope="module")
def run_benchmark(tmp_path_factory):
    """Returns run(name, *flags) -> what it printed."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for folder, noise in (("reference", 0), ("generated", 12)):
        (root / folder).mkdir()
        for i in range(4):
            ramp = np.add.outer(np.arange(32), 2 * np.arange(40))[..., None] + [0, 20, 40 + 9 * i]
            image = np.clip(ramp + rng.normal(0, noise, ramp.shape), 0, 255).astype(np.uint8)
            Image.fromarray(image).save(root / folder / f"{i}.png")
    images = [f"--{folder}={root / folder}" for folder in ("generated", "reference")]

    def run(name, *flags):
        command = [sys.executable, "-c", WITHOUT_TOOLS, str(BENCHMARKS), name, *images, *flags]
        variables = os.environ | {"XLA_FLAGS": FAST}
        done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_agreement_without_tools(run_benchmark, tmp_path):
    path = tmp_path / "table.json"
    printed = run_benchmark("agreement", "--num_images=3", f"--json={path}")
    table = json.loads(path.read_text())
    assert table["images"] == {"num": 3, "height": 32, "width": 40}
    assert sorted(table["not_installed"]) == sorted(TOOLS)
    for tool in TOOLS:
        assert f"{tool}: not installed" in printed
    counts = {}
    for line in table["lines"]:
        kind = line["against"].split()[0]
        counts[kind] = counts.get(kind, 0) + 1
        assert line["absolute"] < 1e-5, line
        assert abs(line["ours"] - line["theirs"]) <= line["absolute"] + 1e-12
    assert counts == {"golden": 11, "formula": 11, "scipy": 1}


@pytest.mark.slow
def test_metrics_without_tools(run_benchmark):
    printed = run_benchmark("metrics", "--num_images=2", "--num_rows=16", "--num_rounds=1")
    ours = [line for line in printed.splitlines() if "retroguide_jax" in line]
    works = ["ssim_rgb", "ssim_skimage", "lpips_alex", "lpips_vgg"]
    works += ["inception features", "FID statistics", "whole FID"]
    assert [line[:18].strip() for line in ours] == works
    for line in ours:
        assert float(line.split()[-1]) > 0
    assert printed.count("not installed") == 12
