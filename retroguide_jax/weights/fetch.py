"""Fetches weight files into our cache: only complete files with the right digest get there."""

import fcntl
import os
import urllib.parse
from pathlib import Path

from retroguide_jax.caches import get_cache_folder
from retroguide_jax.errors import UserError
from retroguide_jax.weights import files
from retroguide_jax.weights.catalog import Weights, get_weights
from retroguide_jax.weights.download import Download


def fetch(name: str, *, mirror: str | None = None, url: str | None = None) -> Path:
    """Downloads weights into our cache, unless they are there.

    An interrupted download resumes where it ended, in this call or the next one, if the server
    supports that. The digest is compared with the known one before the file gets its name; if none
    is known, that of the first copy is recorded beside it in NAME.sha256, and later copies must
    match it.

    Args:
      name: name in the catalog.
      mirror: folder with files of the published names, used in place of the publisher:
        "https://host/folder".
      url: address of the file itself.

    Returns:
      The file's path: `get_cache_folder()` / file name.

    Raises:
      UserError: there are no weights of that name; the address is not http or https; the network
        or the server fails; the file is not the published one (it is not kept); another process is
        fetching it; or it cannot be written.
    """
    weights = get_weights(name)
    address = _choose_address(weights, mirror, url)
    path = get_cache_folder() / weights.file_name
    part = path.with_name(f"{path.name}.part")
    expected = weights.sha256 or files.read_recorded(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Unbuffered and appending, so that a killed process leaves all received bytes on disk.
        with open(part, "ab+", buffering=0) as file:
            _lock(file, path)
            try:
                if path.exists():  # it was there, or another process has just fetched it
                    _check_present(path, expected)
                else:
                    digest = Download(name, address, file, weights.size, expected).run()
                    if not weights.sha256:  # first, so that no file is ever without its record
                        _record(path, digest)
                    os.replace(part, path)
            finally:
                if part.exists() and not part.stat().st_size:
                    part.unlink()
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"cannot write {path}: {reason}; mend that, or choose another place with "
            "$XDG_CACHE_HOME"
        ) from None
    return path


def _choose_address(weights: Weights, mirror: str | None, url: str | None) -> str:
    if mirror and url:
        raise UserError("--mirror and --url are two answers to one question; give one of them")
    address = url or weights.url
    if mirror:
        address = f"{mirror.rstrip('/')}/{weights.url.rsplit('/', 1)[1]}"
    try:
        parts = urllib.parse.urlsplit(address)
        is_web = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        is_web = False
    # Other schemes, such as file://, could read this machine's files.
    if not is_web:
        raise UserError(f"{address!r} is not an http:// or https:// address; give one of these")
    return address


def _lock(file, path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(f"{path}: another process is fetching it; wait for that one") from None


def _check_present(path: Path, expected: str) -> None:
    digest = files.compute_sha256(path)
    if expected and digest != expected:
        raise UserError(
            f"{path} is there but has sha256 {digest}, not {expected}; remove it and fetch it again"
        )


def _record(path: Path, digest: str) -> None:
    record = files.get_record_path(path)
    beside = record.with_name(f".{record.name}.part")
    beside.write_text(f"{digest}  {path.name}\n")
    os.replace(beside, record)
