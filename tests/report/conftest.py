"""A run with hostile names, evaluated beside a judge, and its page."""

import shutil

import pytest
from hostile_run import HOSTILE_RUN, NUM_NOISES, make_config, write_photographs, write_run

from retroguide_jax import __main__ as cli


@pytest.fixture(scope="session")
def world(make_once):
    """A folder with raw/, data/, a run that was evaluated, its copy b, and judge."""

    def fill(folder):
        write_photographs(folder / "raw")
        config = make_config(folder / "raw")
        judge = {"mode": "contrastive", "seed": 5, "embedder.saig.width": 16}
        write_run(folder / HOSTILE_RUN, config)
        write_run(folder / "judge", make_config(folder / "raw", **judge))
        arguments = [f"--workdir={folder / HOSTILE_RUN}", f"--judge={folder / 'judge'}"]
        arguments += [f"--data_dir={folder / 'data'}", f"--num_noises={NUM_NOISES}"]
        assert cli.main(["evaluate", *arguments, "--metrics=psnr,retrieval"]) == 0
        shutil.copytree(folder / HOSTILE_RUN, folder / "b")

    return make_once("report_world", fill)


@pytest.fixture(scope="session")
def page(world, make_once):
    """The report of the hostile run beside its twin."""

    def fill(folder):
        arguments = [f"--workdir={world / HOSTILE_RUN}", f"--compare={world / 'b'}"]
        arguments += [f"--data_dir={world / 'data'}", f"--output={folder / 'page.html'}"]
        assert cli.main(["report", *arguments, f"--num_noises={NUM_NOISES}"]) == 0

    return make_once("report_page", fill) / "page.html"
