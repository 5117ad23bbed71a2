"""Files that are whole or absent."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from retroguide_jax.errors import UserError


@contextlib.contextmanager
def write_beside(path: str | os.PathLike) -> Iterator[Path]:
    """Gives a name beside `path` to write to, and renames it to `path` once that has succeeded.

    A reader never sees half a file. Missing parent folders are made; what was begun in vain is
    removed.

    Args:
      path: of the file.

    Raises:
      UserError: the file cannot be written (no permission, disk full, a folder of that name).
    """
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        os.replace(beside, path)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"cannot write {path}: {reason}; choose another place") from None
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
