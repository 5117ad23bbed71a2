"""Data, a training command and a judge for tests of whole runs."""

import pytest


@pytest.fixture(scope="session")
def data_dir(run_command, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    done = run_command(
        "data", "build", "procedural_city", "--config_name=city_smoke", f"--data_dir={folder}"
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def train(run_command, data_dir):
    """Returns train(workdir, *flags) -> CompletedProcess."""

    def run(workdir, *flags, config="city_smoke", **env):
        place = (f"--workdir={workdir}", f"--data_dir={data_dir}")
        return run_command("train", f"--config={config}", *place, *flags, **env)

    return run


@pytest.fixture(scope="session")
def judge(train, tmp_path_factory):
    """An embedder trained on its own."""
    workdir = tmp_path_factory.mktemp("runs") / "judge"
    flags = ("--config.mode=contrastive", "--config.seed=7", "--config.train.num_steps=4")
    done = train(workdir, *flags, "--config.train.best_metric=r@1_real/embedder")
    assert done.returncode == 0, done.stderr
    return workdir
