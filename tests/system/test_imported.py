"""A work directory of imported weights works wherever a trained one does."""

import json
import shutil

import jax
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from retroguide_jax import __main__ as cli
from retroguide_jax.checkpoints.loading import load_model
from retroguide_jax.checkpoints.saving import list_steps
from retroguide_jax.config import load_config
from retroguide_jax.torch_layout import axes, variables
from retroguide_jax.torch_layout.names import name_parameter

# The flags of a test in test_run.py, whose compiled programs are shared.
FLAGS = ("--config.mode=frozen", "--config.train.num_steps=2", "--config.eval.every=2")


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """A work directory whose weights resemble no initialisation; tests only read it."""
    place = tmp_path_factory.mktemp("imported")
    draw = np.random.default_rng(0)
    arrays = {}
    for name, shape in variables.list_shapes(load_config("city_smoke", FLAGS)).items():
        array = draw.normal(1, 0.1, axes.to_torch(name, np.empty(shape)).shape)
        arrays[name_parameter(name.partition("/")[2])] = array.astype(np.float32)
    save_file(arrays, place / "a.safetensors")
    command = ["weights", "import", "--from=torch", str(place / "a.safetensors")]
    assert cli.main([*command, "--config=city_smoke", *FLAGS, f"--output={place / 'w'}"]) == 0
    return place / "w"


@pytest.fixture
def copied(imported, tmp_path):
    """Another work directory of the same weights."""
    return shutil.copytree(imported, tmp_path / "copied")


def check_near(tree, other, tolerance):
    def check(array, expected):
        np.testing.assert_allclose(array, expected, rtol=0, atol=tolerance)

    jax.tree.map(check, jax.device_get(tree), jax.device_get(other))


@pytest.mark.slow
def test_generate_and_evaluate_use_it(run_command, copied, data_dir, tmp_path):
    Image.new("RGB", (50, 50)).save(tmp_path / "a.png")
    files = (f"--input={tmp_path / 'a.png'}", f"--output={tmp_path / 'out'}")
    done = run_command("generate", f"--workdir={copied}", *files)
    assert done.returncode == 0, done.stderr
    assert Image.open(tmp_path / "out" / "a.png").size == (128, 32)
    some = ("--metrics=psnr", "--max_examples=4", "--num_noises=1", f"--data_dir={data_dir}")
    done = run_command("evaluate", f"--workdir={copied}", *some)
    assert done.returncode == 0, done.stderr
    row = json.loads((copied / "eval" / "results.jsonl").read_text())
    assert row["step"] == 0 and row["metrics"]["psnr"]["n"] == 4


@pytest.mark.slow  # this trains; tests/exchange/test_importing.py covers restoring
def test_train_goes_on_from_it(train, imported, copied):
    before = load_model(imported)
    done = train(copied, *FLAGS)
    assert done.returncode == 0, done.stderr
    assert "from step 0 to 2" in done.stdout
    after = load_model(copied)
    assert list_steps(copied) == [0, 2] and after.step == 2
    generators = after.variables["generator"], before.variables["generator"]
    # Two small steps away, whereas initial weights lie around 0.
    check_near(*generators, 0.1)
    with pytest.raises(AssertionError):
        check_near(*generators, 0.0)


@pytest.mark.slow  # this trains too; test_run.py covers all but the imported embedder
def test_frozen_mode_takes_its_embedder(train, imported, tmp_path):
    done = train(tmp_path / "w", *FLAGS, f"--config.frozen_embedder={imported}")
    assert done.returncode == 0, done.stderr
    embedders = [load_model(w).variables["embedder"] for w in (tmp_path / "w", imported)]
    check_near(*embedders, 0.0)
