"""Keeps what the compiler said, so that a plan that was made once is there at once.

JAX's own compilation cache cannot read back programs for devices that are not there.
"""

import dataclasses
import gzip
import hashlib
import importlib.metadata
import json
import os
from pathlib import Path

import jax

import retroguide_jax
from retroguide_jax.files import write_beside
from retroguide_jax.plan.compiling import Compiled, compile_lowered


def default_folder() -> Path:
    """`$XDG_CACHE_HOME/retroguide_jax/plan`, or the same in `~/.cache`."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "retroguide_jax" / "plan"


def list_versions() -> dict[str, str]:
    """The releases that a plan depends on."""
    versions = {"retroguide_jax": retroguide_jax.__version__}
    for name in ("jax", "flax", "libtpu"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "absent"
    return versions


def keep(folder: Path, lowered: jax.stages.Lowered, **target: str | int) -> Compiled:
    """What `compile_lowered` gives, or gave before for the same program, target and releases.

    Args:
      folder: of the files, one each.
      lowered: the program, before the compiler has seen it.
      **target: what it is compiled for.

    Raises:
      UserError: the compiler fails for another reason than memory, or the file cannot be written.
    """
    target |= {"level": str(jax.config.jax_optimization_level)} | list_versions()
    parts = (lowered.as_text(), json.dumps(target, sort_keys=True))
    path = folder / f"{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:32]}.json.gz"
    try:
        return Compiled(**json.loads(gzip.decompress(path.read_bytes())))
    # Absent, cut short, or of another release: made anew.
    except (OSError, EOFError, ValueError, TypeError):
        compiled = compile_lowered(lowered)
    with write_beside(path) as beside:
        beside.write_bytes(gzip.compress(json.dumps(dataclasses.asdict(compiled)).encode()))
    return compiled
