"""The launch scripts print exactly what they would run."""

import subprocess
from pathlib import Path

import pytest

LAUNCH = Path(__file__).parents[1] / "launch"


def dry_run(script, *args):
    result = subprocess.run(
        ["bash", LAUNCH / script, *args],
        env={"DRY_RUN": "1", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    return [line.removeprefix("+ ") for line in result.stdout.splitlines()]


@pytest.mark.smoke
def test_the_demo_builds_trains_and_measures_in_one_folder():
    assert dry_run("city_demo.sh", "runs/x", "--config.seed=3") == [
        "retroguide data build procedural_city --config_name=city_64",
        "retroguide train --config=city_retrieval --workdir=runs/x/judge",
        "retroguide train --config=city --workdir=runs/x --config.seed=3",
        "retroguide evaluate --workdir=runs/x --judge=runs/x/judge",
    ]


def test_the_demo_has_a_default_folder():
    assert dry_run("city_demo.sh")[-1].endswith("--workdir=runs/city --judge=runs/city/judge")


def test_the_readme_runs_the_demo_script():
    readme = (LAUNCH.parent / "README.md").read_text()
    assert "bash launch/city_demo.sh runs/city" in readme
