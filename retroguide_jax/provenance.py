"""Provenance of a result: command, commit and machine, recorded next to every number."""

import datetime
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from retroguide_jax import __version__

STARTS_PATH = Path("starts.jsonl")  # in a work directory: one row per start of the training


def describe_machine() -> dict[str, Any]:
    """Package versions, commit and devices, to trace discrepancies later.

    Returns:
      {"retroguide_jax", "commit" if known, "jax", "device", "processor" if its name is known,
      "processes"}.
    """
    import jax

    facts = {
        "retroguide_jax": __version__,
        "commit": find_commit(),
        "jax": jax.__version__,
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "processor": _name_processor(),
        "processes": jax.process_count(),
    }
    return {name: fact for name, fact in facts.items() if fact}


def describe_command() -> str:
    """The command line of this process, quoted for a shell."""
    name = Path(sys.argv[0]).name
    program = ["python", "-m", "retroguide_jax"] if name == "__main__.py" else [name]
    return shlex.join([*program, *sys.argv[1:]])


def find_commit() -> str:
    """The commit of the working copy that this code runs from, with `-dirty` appended if tracked
    files differ; "" for an installed package.
    """
    here = Path(__file__).resolve()
    git = ["git", "-C", str(here.parent)]
    try:
        # The code may be installed in an environment inside an unrelated repository.
        subprocess.run(
            [*git, "ls-files", "--error-unmatch", str(here)],
            capture_output=True, check=True, timeout=10,
        )  # fmt: skip
        described = subprocess.run(
            [*git, "describe", "--always", "--dirty", "--exclude=*"],
            capture_output=True, check=True, text=True, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ""
    return described.stdout.strip()


def format_time() -> str:
    """Now, in UTC, such as 2026-11-24T12:34:56Z."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _name_processor() -> str:
    """Processor name, such as AMD EPYC: from /proc/cpuinfo on Linux, else from `platform`."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    except OSError:
        pass
    return platform.processor()
