"""Files that are whole or absent."""

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from retroguide_jax.errors import UserError
from retroguide_jax.paths import is_in_bucket, one_line, to_path


@contextlib.contextmanager
def write_beside(path: str | os.PathLike) -> Iterator[Path]:
    """Gives a name beside `path` to write to, and renames it to `path` once that has succeeded.

    A reader never sees half a file. Missing parent folders are made; what was begun in vain is
    removed. For a `path` in a bucket the name is a local one, and its content is put there whole:
    an object appears when its last byte has arrived.

    Args:
      path: of the file.

    Raises:
      UserError: the file cannot be written (no permission, disk full, a folder of that name).
    """
    path = to_path(path)
    if is_in_bucket(path):
        with tempfile.TemporaryDirectory() as folder:
            beside = Path(folder, path.name)
            yield beside
            put(beside, path)
        return
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


@contextlib.contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Waits until no other process of this machine holds the folder, which is made if need be.

    Where the file system locks no folders (NFS) nobody waits: what is done inside must still be
    right when two do it.

    Args:
      folder: a local one.

    Raises:
      OSError: it cannot be made or opened.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # The folder itself is locked, so that no lock file stays; closing releases, as does a crash.
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def put(source: Path, target: Path) -> None:
    """Copies a local file to an address in a bucket, where it appears whole.

    Raises:
      UserError: it cannot be written there.
    """
    try:
        target.write_bytes(source.read_bytes())
    except Exception as error:  # of HTTP, of credentials and of the network, each its own
        raise UserError(f"cannot write {target}: {one_line(error)}") from error
