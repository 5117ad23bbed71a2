"""Paths of directories that may lie in a bucket of Google Cloud Storage."""

import functools
import os
from pathlib import Path

from retroguide_jax.errors import UserError

_SCHEME = "gs://"


def to_path(path: str | os.PathLike) -> Path:
    """A local path, or for an address like gs://BUCKET/NAME one with the same methods.

    Addresses give an `etils.epath.Path`, which Orbax and TFDS take too. It has no renaming worth
    the name, no appending and no locks, and must not be made absolute.

    Raises:
      UserError: another kind of address; gcsfs is not installed; there is no such bucket, or it
        cannot be reached.
    """
    text = os.fspath(path)
    if "://" not in text:
        return Path(path)
    bucket = text.removeprefix(_SCHEME).partition("/")[0]
    if not text.startswith(_SCHEME) or not bucket:
        raise UserError(f"{text}: give gs://BUCKET/NAME or a directory; others must be mounted")
    _check_bucket(bucket)
    from etils import epath

    return epath.Path(text)


def is_in_bucket(path: str | os.PathLike) -> bool:
    """Whether a path is an address in a bucket."""
    return os.fspath(path).startswith(_SCHEME)


def make_absolute(path: Path) -> Path:
    """The path from the root on, as Orbax wants it; addresses are that already."""
    return path if is_in_bucket(path) else path.absolute()


def relate(path: Path, folder: Path) -> str:
    """A path as seen from a folder, so that both can move together; an address stays as it is."""
    if is_in_bucket(path) or is_in_bucket(folder):
        return str(make_absolute(path))
    return os.path.relpath(path.resolve(), folder.resolve())


def relocate(text: str, folder: Path) -> Path:
    """The path that `relate` described.

    Raises:
      UserError: see `to_path`, of an address.
    """
    if is_in_bucket(text) or is_in_bucket(folder):
        return to_path(text)
    return Path(os.path.normpath(folder.resolve() / text))


def to_local_path(path: str | os.PathLike) -> Path:
    """A local path, where only a file system with links and folders will do.

    Raises:
      UserError: it is an address.
    """
    if "://" in os.fspath(path):
        raise UserError(f"{path}: give a local or mounted directory; addresses are not taken here")
    return Path(path)


@functools.cache
def _check_bucket(bucket: str) -> None:
    import logging

    import fsspec
    from etils import epath

    # Read when the file system is made. Other processes write there too, so that a listing kept
    # from a while ago, its default for ever, would hide what they have written since.
    fsspec.config.conf.setdefault("gcs", {})["use_listings_cache"] = False
    # It logs with traceback what it raises as well.
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
    except Exception as error:  # errors of HTTP, of credentials and of the network, each its own
        raise UserError(
            f"{place}: cannot be reached: {one_line(error)}; to log in: "
            "gcloud auth application-default login"
        ) from error


def one_line(error: BaseException) -> str:
    """The error's first line, at most 200 characters, or its kind where it has none."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200]
