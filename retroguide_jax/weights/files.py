"""Weight files on this machine: finds, verifies and reads them.

The files are not trusted: no code that a file contains or names is executed.
"""

import dataclasses
import hashlib
import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from retroguide_jax.caches import get_cache_folder, get_caches
from retroguide_jax.errors import UserError
from retroguide_jax.weights import reading
from retroguide_jax.weights.catalog import Weights, get_weights

ENVIRONMENT = "RETROGUIDE_WEIGHTS"


class MissingWeightsError(UserError):
    """Weights that were not found on this machine.

    Attributes:
      name: their name in the catalog.
    """

    def __init__(self, name: str, places: list[str]):
        self.name = name
        super().__init__(
            f"weights {name} ({get_weights(name).file_name}) not found; looked in "
            f"{', '.join(places)}; get them with `retroguide weights fetch {name}`, or name the "
            f"file or its folder with --weights or ${ENVIRONMENT}"
        )


@dataclasses.dataclass(frozen=True)
class WeightsFile:
    """A weight file that was read.

    Attributes:
      path: its path.
      sha256: its digest, hexadecimal.
      arrays: float32 arrays by their names in the publisher's network.
      origin: digest of the published file: `sha256` or, for a file that `retroguide weights
        convert` made, the recorded digest of the file it was made from.
      is_verified: whether `origin` is the published file's known digest or, if none is known, the
        one recorded when it was first fetched. False for arrays that somebody stored in another
        format, and for files for which neither digest is known.
    """

    path: Path
    sha256: str
    arrays: dict[str, np.ndarray]
    origin: str
    is_verified: bool


def find(name: str, extra: str | os.PathLike | None = None) -> Path | None:
    """Looks for weights without reading any file.

    Places are searched in this order: `extra`, $RETROGUIDE_WEIGHTS (either a file or a folder),
    PyTorch's cache ($TORCH_HOME or ~/.cache/torch)/hub/checkpoints, the data of installed packages,
    our own cache. A folder has the weights if it contains the published file, under any of its
    names and with the published size, or a .safetensors or .npz file named after it or after
    `name`. A file that is given itself may have another name if it has the published size.

    Args:
      name: name in the catalog.
      extra: a file or folder to look in first.

    Returns:
      The path, or None.

    Raises:
      UserError: there are no weights of that name, or `extra` or $RETROGUIDE_WEIGHTS is not there.
    """
    return _search(get_weights(name), extra)[0]


def load(name: str, extra: str | os.PathLike | None = None) -> WeightsFile:
    """Finds weights, compares their digest with the known one, and reads them.

    Args:
      name: name in the catalog.
      extra: see `find`.

    Raises:
      MissingWeightsError: they were not found.
      UserError: see `find` and `reading.read_arrays`; or the file, or the one it was converted
        from, is not the published one.
    """
    weights = get_weights(name)
    path, places = _search(weights, extra)
    if path is None:
        raise MissingWeightsError(name, places)
    return check(weights, path)


def check(weights: Weights, path: Path) -> WeightsFile:
    """Verifies a file against the catalog's entry and reads it; see `load`."""
    digest = compute_sha256(path)
    is_converted = path.suffix in reading.CONVERTED
    origin = reading.read_origin(path) if is_converted else digest
    expected = weights.sha256 or read_recorded(path)
    if expected and origin and origin != expected:
        what = (
            "was converted from a file with"
            if is_converted
            else "is not the published file: it has"
        )
        raise UserError(
            f"{path} {what} sha256 {origin}, but {weights.name} has {expected}; remove it and run "
            f"`retroguide weights fetch {weights.name}`"
        )
    arrays = reading.read_arrays(path)
    return WeightsFile(
        path, digest, arrays, origin or digest, bool(expected) and origin == expected
    )


def compute_sha256(path: str | os.PathLike) -> str:
    """Digest of a file, 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def get_record_path(path: Path) -> Path:
    """Path of the record of the first copy's digest, in the format of `sha256sum`."""
    return path.with_name(f"{path.name}.sha256")


def read_recorded(path: Path) -> str:
    """The digest that was recorded when the file was first fetched, or ""."""
    try:
        return get_record_path(path).read_text().split(maxsplit=1)[0].lower()
    except (OSError, IndexError, UnicodeDecodeError):
        return ""


def _search(weights: Weights, extra) -> tuple[Path | None, list[str]]:
    """The path or None, and the places searched, each with the reason why a file was rejected."""
    published = (weights.file_name, *weights.aliases)
    stems = dict.fromkeys((reading.get_stem(weights.file_name), weights.name))
    converted = [stem + suffix for stem in stems for suffix in reading.CONVERTED]
    places = []
    for path, is_explicit in _list_places(weights, extra):
        note = ""
        if path.is_dir():
            for candidate in (path / name for name in (*published, *converted)):
                if candidate.is_file():
                    note = _explain_size(weights, candidate)
                    if not note:
                        return candidate, places
        elif path.is_file():
            is_named = not is_explicit or path.name in (*published, *converted)
            note = _explain_size(weights, path)
            if not note and (is_named or path.stat().st_size == weights.size):
                return path, places
            note = note or f" (not recognised; call it {weights.file_name})"
        places.append(f"{path}{note}")
    return None, places


def _explain_size(weights: Weights, path: Path) -> str:
    """Why a file cannot be the published one by its size; "" if it can."""
    size = path.stat().st_size
    if weights.size in (None, size) or path.suffix in reading.CONVERTED:
        return ""
    return f" ({path.name} has {size:,} bytes, not {weights.size:,})"


def _list_places(weights: Weights, extra) -> Iterator[tuple[Path, bool]]:
    """Yields folders and files to search in order, and whether the user named them."""
    for flag, text in (("--weights", extra), (f"${ENVIRONMENT}", os.environ.get(ENVIRONMENT))):
        if text:
            path = Path(text).expanduser()
            if not path.exists():
                raise UserError(f"{flag}={path}: no such file or folder; name weights that exist")
            yield path, True
    torch_home = os.environ.get("TORCH_HOME") or get_caches() / "torch"
    yield Path(torch_home).expanduser() / "hub" / "checkpoints", False
    for package, inside in weights.packages:
        for folder in _find_package(package):
            yield folder / inside, False
    yield get_cache_folder(), False


def _find_package(name: str) -> list[Path]:
    """The folders of an installed package, found without importing it."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):  # a half-installed or replaced package
        return []
    return [Path(folder) for folder in (spec and spec.submodule_search_locations) or ()]
