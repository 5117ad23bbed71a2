"""Progress: bars on terminals, lines in logs, nothing where it is switched off."""

import io
import os
import sys
import threading
import time
import weakref

import pytest
from tqdm import tqdm

from retroguide_jax import __main__ as cli
from retroguide_jax import progress

# The second line of the screen is empty, and the cursor is at the beginning of the first.
_CLEARED = "\r\x1b[A"


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def report(monkeypatch):
    """Returns report(stderr, **options) -> the progress output of ten items."""
    monkeypatch.delenv(progress.QUIET, raising=False)

    def run(stderr, **options):
        monkeypatch.setattr(sys, "stderr", stderr)
        # Position 0, even if other tests in this process have left bars open.
        bar = progress.make_bar(range(10), desc="work", unit="image", position=0, **options)
        for _ in bar:
            time.sleep(0.01)
        return stderr.getvalue()

    return run


def test_a_terminal_has_a_bar_that_is_gone_in_the_end(report):
    text = report(Terminal(), mininterval=0)
    assert "work: " in text and "10/10" in text
    assert text.rstrip(" ").endswith("\r")


def test_a_log_has_whole_lines_with_the_time_left(report, monkeypatch):
    monkeypatch.setattr(progress, "_SECONDS_PER_LINE", 0.02)
    lines = report(io.StringIO()).splitlines()
    assert 2 <= len(lines) <= 5 and "\r" not in "".join(lines)
    assert all(line.startswith("work: ") and "/10 [" in line and "<" in line for line in lines)


def test_short_work_leaves_a_log_alone(report):
    assert report(io.StringIO()) == ""


def test_what_others_report_is_not_reported_twice(report):
    assert report(Terminal(), mininterval=0, shown=False) == ""


def test_quiet_is_a_flag_of_every_command_and_sub_command(report, monkeypatch, tmp_path):
    monkeypatch.setenv(progress.QUIET, "")  # so that it is restored after the test
    assert "10/10" in report(Terminal(), mininterval=0)
    wrong = ["data", "check", "cvusa", f"--raw_dir={tmp_path / 'nothing'}", "--quiet"]
    assert cli.main(wrong) == 1
    assert os.environ[progress.QUIET] == "1"
    assert report(Terminal(), mininterval=0) == ""


def run_stage(monkeypatch, stderr):
    monkeypatch.setattr(sys, "stderr", stderr)
    # Bars that other tests left open would be redrawn with this one.
    monkeypatch.setattr(tqdm, "_instances", weakref.WeakSet(), raising=False)
    with progress.show_stage("compiling"):
        time.sleep(0.2)
        progress.print_line("a note")
    return stderr.getvalue()


def test_a_stage_has_a_running_clock_on_a_terminal(monkeypatch):
    monkeypatch.delenv(progress.QUIET, raising=False)
    monkeypatch.setattr(progress, "_SECONDS_PER_TICK", 0.02)
    text = run_stage(monkeypatch, Terminal())
    assert text.count("compiling [00:00]") >= 3
    assert text.endswith(_CLEARED)


def test_a_line_stands_above_the_clock(monkeypatch):
    monkeypatch.delenv(progress.QUIET, raising=False)
    before, _, after = run_stage(monkeypatch, Terminal()).partition("a note\n")
    assert before.endswith(_CLEARED) and "compiling [00:00]" in after


def test_a_stage_is_a_line_in_a_log_once_it_takes_long(monkeypatch):
    monkeypatch.delenv(progress.QUIET, raising=False)
    assert run_stage(monkeypatch, io.StringIO()) == "a note\n"
    monkeypatch.setattr(progress, "_SECONDS_PER_LINE", 0.08)
    lines = run_stage(monkeypatch, io.StringIO()).splitlines()
    assert 2 <= len(lines) <= 4 and set(lines) == {"compiling [00:00]", "a note"}


def test_a_quiet_stage_has_no_clock(monkeypatch):
    monkeypatch.setenv(progress.QUIET, "1")
    monkeypatch.setattr(progress, "_SECONDS_PER_TICK", 0.02)
    assert run_stage(monkeypatch, Terminal()) == "a note\n"


def test_a_failed_stage_stops_its_clock(monkeypatch):
    monkeypatch.setattr(progress, "_SECONDS_PER_TICK", 0.02)
    monkeypatch.setattr(sys, "stderr", Terminal())
    with pytest.raises(ValueError), progress.show_stage("compiling"):
        raise ValueError
    assert "clock" not in [thread.name for thread in threading.enumerate()]
