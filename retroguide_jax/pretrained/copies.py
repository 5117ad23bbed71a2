"""Finds the packaged models by address: `pretrained:NAME`, wherever a work directory is taken.

What is installed is not to be written to, and an evaluation adds files to a work directory. So an
address stands for a copy of the packaged folder in the user's cache, made when it is first asked
for.
"""

import hashlib
import os
import shutil
from pathlib import Path

from retroguide_jax.caches import get_cache_folder
from retroguide_jax.errors import UserError
from retroguide_jax.text import find_nearest

SCHEME = "pretrained:"
PACKAGED = Path(__file__).parent


def list_names() -> list[str]:
    """The names of the packaged models, sorted."""
    return sorted(path.parent.name for path in PACKAGED.glob("*/embedder.safetensors"))


def open_copy(address: str) -> Path:
    """The work directory that an address stands for; its last part is the model's name.

    Several processes may call this at the same time. A release with other weights gets another
    copy, so that scores in a copy are always those of its weights.

    Args:
      address: "pretrained:NAME".

    Raises:
      UserError: there is no model of that name, or the cache cannot be written.
    """
    name, names = address.removeprefix(SCHEME), list_names()
    if name not in names:
        nearest = find_nearest(name, names)
        hint = f" did you mean {SCHEME}{nearest}?" if nearest else ""
        known = ", ".join(f"{SCHEME}{name}" for name in names) or "none"
        raise UserError(f"{address}: no packaged model of that name;{hint} there are {known}")
    packaged = PACKAGED / name
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(packaged.iterdir())))
    copy = get_cache_folder() / "pretrained" / digest.hexdigest()[:16] / name
    if not copy.is_dir():
        _copy(packaged, copy)
    return copy


def _copy(packaged: Path, copy: Path) -> None:
    beside = copy.with_name(f".{copy.name}.{os.getpid()}.part")
    try:
        beside.mkdir(parents=True)
        for path in packaged.iterdir():
            shutil.copyfile(path, beside / path.name)  # without permissions: those may be read-only
        os.rename(beside, copy)
    except OSError as error:
        if not copy.is_dir():  # else another process has just made it
            reason = error.strerror or error
            raise UserError(
                f"{copy}: cannot be made: {reason}; name another cache by $XDG_CACHE_HOME"
            ) from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)
