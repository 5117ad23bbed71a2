"""A run saved on eight devices continues along the same curve on other meshes."""

import shutil

import pytest
from local_jobs import TINY_JOB, assert_agree, run_descent

# Few further steps: later an activation crosses a kink because of rounding.
NUM_STEPS, SAVED = 9, 6


@pytest.fixture(scope="module")
def train(data_dir):
    """Returns train(workdir, num_devices, **mesh) -> what was printed."""
    flags = [f"--config={TINY_JOB}", f"--data_dir={data_dir}", "--config.train.keep_checkpoints=9"]
    flags += [f"--config.train.num_steps={NUM_STEPS}", f"--config.train.checkpoint_every={SAVED}"]

    def run(workdir, num_devices, **mesh):
        sizes = [f"--config.mesh.{axis}={size}" for axis, size in mesh.items()]
        return run_descent(num_devices, "train", *flags, *sizes, f"--workdir={workdir}")

    return run


@pytest.fixture(scope="module")
def uninterrupted(train, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "uninterrupted"
    train(workdir, 8, data=8)
    return workdir


@pytest.mark.slow
@pytest.mark.parametrize(
    ("num_devices", "mesh"), [(8, {"data": 2, "fsdp": 4}), (4, {"data": 4}), (1, {"data": 1})]
)
def test_it_resumes_elsewhere(train, uninterrupted, tmp_path, num_devices, mesh):
    workdir = shutil.copytree(uninterrupted, tmp_path / "run")
    shutil.rmtree(workdir / "checkpoints" / str(NUM_STEPS))
    (workdir / "finished.json").unlink()
    printed = train(workdir, num_devices, **mesh)
    assert f"{num_devices} x cpu" in printed and f"from step {SAVED} to {NUM_STEPS}" in printed
    assert_agree(workdir, uninterrupted)
