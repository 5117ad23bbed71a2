"""Data, a training command, a finished run and a judge for tests of whole runs."""

import pytest
from whole_run import FLAGS


@pytest.fixture(scope="session")
def data_dir(run_command, make_once):
    def build(folder):
        flags = ("--config_name=city_smoke", f"--data_dir={folder}")
        done = run_command("data", "build", "procedural_city", *flags)
        assert done.returncode == 0, done.stderr

    return make_once("data", build)


@pytest.fixture(scope="session")
def train(run_command, data_dir):
    """Returns train(workdir, *flags) -> CompletedProcess."""

    def run(workdir, *flags, config="city_smoke", **env):
        place = (f"--workdir={workdir}", f"--data_dir={data_dir}")
        return run_command("train", f"--config={config}", *place, *flags, **env)

    return run


@pytest.fixture(scope="session")
def train_once(train, make_once):
    """Returns train_once(name, *flags) -> the work directory of a run that all tests share."""

    def run(name, *flags):
        def fill(workdir):
            done = train(workdir, *flags)
            assert done.returncode == 0, done.stderr

        return make_once(name, fill)

    return run


@pytest.fixture(scope="session")
def finished(train_once):
    """The work directory of a run that was never stopped; not to be written to."""
    return train_once("finished", *FLAGS)


@pytest.fixture(scope="session")
def judge(train_once):
    """An embedder trained on its own."""
    flags = ("--config.mode=contrastive", "--config.seed=7", "--config.train.num_steps=4")
    return train_once("judge", *flags, "--config.train.best_metric=r@1_real/embedder")
