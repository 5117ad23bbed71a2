"""Data, a training command, a finished run and a judge for tests of whole runs."""

import pytest
from random_model import save_run
from whole_run import FLAGS

from retroguide_jax.config import load_config


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
def judge(make_once):
    """An embedder with random weights: nothing is compiled for it."""
    config = load_config("city_smoke", ["--config.mode=contrastive"])
    return make_once("judge", lambda workdir: save_run(workdir, config))
