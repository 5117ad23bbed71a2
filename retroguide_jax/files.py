"""Durable files, local or in a bucket: paths, atomic writes, append-only JSON lines."""

import contextlib
import fcntl
import functools
import json
import os
import tempfile
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from retroguide_jax.errors import UserError
from retroguide_jax.pretrained import copies
from retroguide_jax.text import one_line

_SCHEME = "gs://"


def to_path(path: str | os.PathLike) -> Path:
    """A local path, or, for an address like gs://BUCKET/NAME, an object with the same methods.

    The address pretrained:NAME gives a local path, that of a packaged model. Those of buckets give
    an `etils.epath.Path`, which Orbax and TFDS accept too. It has no atomic rename, no append and
    no locks, and must not be made absolute.

    Raises:
      UserError: another kind of address; gcsfs is not installed; there is no such bucket, or it
        cannot be reached; see `copies.open_copy`.
    """
    text = os.fspath(path)
    if text.startswith(copies.SCHEME):
        return copies.open_copy(text)
    if "://" not in text:
        return Path(path)
    bucket = text.removeprefix(_SCHEME).partition("/")[0]
    if not text.startswith(_SCHEME) or not bucket:
        raise UserError(f"{text}: give gs://BUCKET/NAME or a directory; others must be mounted")
    _check_bucket(bucket)
    from etils import epath

    return epath.Path(text)  # pyright: ignore[reportReturnType]


def is_in_bucket(path: str | os.PathLike) -> bool:
    """Whether a path is an address in a bucket."""
    return os.fspath(path).startswith(_SCHEME)


def make_absolute(path: Path) -> Path:
    """The absolute path, as Orbax requires; addresses are absolute already."""
    return path if is_in_bucket(path) else path.absolute()


def relate(path: Path, folder: Path) -> str:
    """A path relative to a folder, so that both can move together; an address stays as it is."""
    if is_in_bucket(path) or is_in_bucket(folder):
        return str(make_absolute(path))
    return os.path.relpath(path.resolve(), folder.resolve())


def relocate(text: str, folder: Path) -> Path:
    """Inverse of `relate`.

    Raises:
      UserError: see `to_path`, for an address.
    """
    if is_in_bucket(text) or is_in_bucket(folder):
        return to_path(text)
    return Path(os.path.normpath(folder.resolve() / text))


def to_local_path(path: str | os.PathLike) -> Path:
    """A local path, for uses that need a file system with links and folders.

    Raises:
      UserError: the path is an address.
    """
    if "://" in os.fspath(path):
        raise UserError(f"{path}: give a local or mounted directory; addresses are not taken here")
    return Path(path)


def find_inside(folder: Path, name: str) -> Path | None:
    """The path of a file that a list names; None if the name leads out of the folder.

    Links in the folder may point anywhere: the folder's owner made them. If no file has the name
    as it is spelt, the spelling with composed or decomposed accents (NFC, NFD) is tried.
    """
    name = os.path.normpath(name)
    if os.path.isabs(name) or name.split(os.sep)[0] == ".." or "\0" in name:
        return None
    spellings = [name, *(unicodedata.normalize(form, name) for form in ("NFC", "NFD"))]
    paths = [folder / spelling for spelling in dict.fromkeys(spellings)]
    return next(filter(os.path.lexists, paths), paths[0])


@functools.cache
def _check_bucket(bucket: str) -> None:
    import logging

    import fsspec
    from etils import epath

    # gcsfs caches listings forever by default, hiding files written by other processes. The option
    # is read when the file system is created.
    fsspec.config.conf.setdefault("gcs", {})["use_listings_cache"] = False  # pyright: ignore[reportAttributeAccessIssue]
    # gcsfs also logs, with traceback, every error that it raises.
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)
    place = f"{_SCHEME}{bucket}"
    try:
        epath.Path(place).stat()
    except ImportError as error:
        raise UserError(
            f"{place}: needs the package gcsfs: pip install 'retroguide_jax[gcs]'"
        ) from error
    except FileNotFoundError as error:
        raise UserError(
            f"{place}: no such bucket, or no right to see it (storage.buckets.get)"
        ) from error
    except Exception as error:  # HTTP, credentials and network raise unrelated types
        raise UserError(
            f"{place}: cannot be reached: {one_line(error)}; to log in: "
            "gcloud auth application-default login"
        ) from error


@contextlib.contextmanager
def write_beside(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a temporary sibling of `path`, renamed to `path` on success and deleted on failure.

    A reader never sees half a file. Missing parent folders are made. For a `path` in a bucket, the
    temporary file is local and is uploaded on success: an object appears only once its last byte
    has arrived.

    Args:
      path: the file to write.

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
def lock_folder(folder: Path, wait: bool = True) -> Iterator[None]:
    """Context manager: locks a folder, made if missing, against other processes of this machine.

    On a file system that cannot lock folders (NFS) there is no lock: the block must still be
    correct if two processes run it at the same time.

    Args:
      folder: a local folder.
      wait: whether to wait for another process that has it locked.

    Raises:
      BlockingIOError: another process has it locked, and `wait` is False.
      OSError: the folder cannot be made or opened.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # The folder itself is locked, so that no lock file remains; closing it or a crash releases it.
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:
            pass  # a file system without locks
        yield
    finally:
        os.close(handle)


def put(source: Path, target: Path) -> None:
    """Uploads a local file to an address in a bucket, where it appears only once complete.

    Raises:
      UserError: the object cannot be written.
    """
    try:
        target.write_bytes(source.read_bytes())
    except Exception as error:  # HTTP, credentials and network raise unrelated types
        raise UserError(f"cannot write {target}: {one_line(error)}") from error


def append_row(path: str | os.PathLike, row: dict[str, Any]) -> Path:
    """Appends `row` as one JSON line to a file, made if missing, and returns its path.

    The line is written by a single O_APPEND write and synced before this returns, so that rows of
    concurrent jobs never mix. A partial line left by a full disk or a killed job is closed with a
    line break first, so that it spoils no other row. In a bucket the whole file is read and written
    again with the row appended: if two jobs append at the same moment, one row may be lost.

    Raises:
      UserError: the row cannot be written completely.
      ValueError: `row` holds NaN or infinity, which JSON cannot represent.
    """
    line = json.dumps(row, allow_nan=False) + "\n"
    path = to_path(path)
    if is_in_bucket(path):
        known = path.read_text() if path.exists() else ""
        with write_beside(path) as beside:
            beside.write_text(known + line)
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            size = os.fstat(file).st_size
            if size and os.pread(file, 1, size - 1) != b"\n":
                line = "\n" + line
            data = line.encode()
            if os.write(file, data) != len(data):
                raise UserError(f"{path}: the row was written only in part; is the disk full?")
            os.fsync(file)
        finally:
            os.close(file)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from error
    return path


def read_rows(path: str | os.PathLike) -> list[dict[str, Any]]:
    """The complete rows of a file, oldest first; [] if there is no such file.

    A partial line left by a killed job is skipped. A row that lacks only its line break is
    complete; `append_row` adds the line break later.

    Raises:
      UserError: the file cannot be read.
    """
    path = to_path(path)
    try:
        lines = path.read_bytes().split(b"\n") if path.exists() else []
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    rows = []
    for line in lines:
        with contextlib.suppress(ValueError):
            row = json.loads(line)
            if isinstance(row, dict):
                rows.append(row)
    return rows
