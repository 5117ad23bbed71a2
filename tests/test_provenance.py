"""Provenance of a result: the commit is that of this code, not of another repository."""

import shutil
import subprocess
import sys

import pytest

from retroguide_jax import provenance


def run_git(folder, *words):
    settings = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    subprocess.run(["git", "-C", folder, *settings, *words], check=True, capture_output=True)


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """A copy of the module in another repository, where it is not tracked."""
    run_git(tmp_path, "init")
    (tmp_path / "theirs.txt").write_text("theirs")
    run_git(tmp_path, "add", "theirs.txt")
    run_git(tmp_path, "commit", "-m", "theirs")
    path = tmp_path / "installed" / "provenance.py"
    path.parent.mkdir()
    shutil.copy(provenance.__file__, path)
    monkeypatch.setattr(provenance, "__file__", str(path))
    return path


def test_a_working_copy_has_its_commit_and_whether_it_was_changed(copied):
    run_git(copied.parent, "add", copied.name)
    run_git(copied.parent, "commit", "-m", "ours")
    clean = provenance.find_commit()
    assert len(clean) >= 7 and int(clean, 16)
    copied.write_text("changed")
    assert provenance.find_commit() == f"{clean}-dirty"


def test_an_installed_package_does_not_report_the_commit_around_it(copied):
    assert provenance.find_commit() == ""


def test_the_command_can_be_typed_again(monkeypatch):
    words = ["--workdir=my runs/a", "--config.data.aerial_size=(64, 64)"]
    monkeypatch.setattr(sys, "argv", ["/usr/bin/retroguide", "train", *words])
    command = "retroguide train '--workdir=my runs/a' '--config.data.aerial_size=(64, 64)'"
    assert provenance.describe_command() == command


def test_what_is_not_known_is_left_out(monkeypatch):
    monkeypatch.setattr(provenance, "find_commit", lambda: "")
    facts = provenance.describe_machine()
    assert "commit" not in facts and facts["processes"] == 1
    assert facts["device"].endswith("cpu")
