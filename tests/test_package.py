"""The wheel: it holds every module, and works without the repository."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.smoke

ROOT = Path(__file__).resolve().parents[1]
# Top-level folder -> its place inside the installed package.
FOLDERS = {
    "retroguide_jax": "retroguide_jax",
    "configs": "retroguide_jax/configs",
    "datasets": "retroguide_jax/datasets",
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy: a build leaves folders that the next build would include."""
    source = tmp_path_factory.mktemp("source")
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in FOLDERS:
        ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / name, source / name, ignore=ignore)
    target = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet"]
    subprocess.run([*pip, "--wheel-dir", str(target), str(source)], check=True)
    (file,) = target.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The `bin` folder of an environment with the wheel; dependencies are borrowed from here."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    bin_folder = folder / "bin"
    pip = [sys.executable, "-m", "pip", "--python", str(bin_folder / "python"), "install"]
    subprocess.run([*pip, "--no-deps", "--quiet", str(wheel)], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    # A .pth line adds a folder without running the .pth files in it; one of them would make the
    # editable install of this repository importable.
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return bin_folder


def _run(cwd, *command):
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_every_file(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder, place in FOLDERS.items():
        for file in (ROOT / folder).rglob("*"):
            if file.is_file() and file.suffix not in (".pyc", ".toml"):
                name = f"{place}/{file.relative_to(ROOT / folder)}"
                assert name in names, f"{name}: add its package to setup.cfg"
    assert not [name for name in names if not name.startswith("retroguide_jax")]
    assert [name for name in names if name.endswith("/licenses/LICENSE")]


def test_the_wheel_works_from_another_directory(installed, tmp_path):
    assert "commands:" in _run(tmp_path, installed / "retroguide", "--help")
    program = (
        "import retroguide_jax.datasets\n"
        "from retroguide_jax import config\n"
        "print(config.configs.__file__)\n"
        "print(retroguide_jax.datasets.__file__)\n"
        "names = config.list_packaged_configs()\n"
        "for name in names: config.load_config(name)\n"
        "print(' '.join(names))"
    )
    lines = _run(tmp_path, installed / "python", "-c", program).splitlines()
    for line in lines[:2]:
        assert line.startswith(str(installed.parent))
    expected = sorted(file.stem for file in (ROOT / "configs").glob("[!_]*.py"))
    assert lines[2].split() == expected
