"""Cache of the frozen networks' outputs on the real images, for later evaluations."""

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from retroguide_jax.errors import UserError
from retroguide_jax.evaluation import protocol
from retroguide_jax.files import write_beside
from retroguide_jax.parallel.processes import is_writer

_PREFIX = "real/"


class Reference:
    """Outputs of the frozen networks on the real images, cached in memory and in a file.

    Args:
      path: of the file; None keeps them in memory only, for the next checkpoint under --watch.
    """

    def __init__(self, path: Path | None):
        self._path = path
        self._known: tuple[str, dict[str, np.ndarray]] | None = None

    def read(self, described: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The cached columns for this protocol; {} where there are none yet.

        `Scorer.score` compares their "real_digest" with the images as it reads them.

        Raises:
          UserError: the file was made from other images, another resize or range, or other weights;
            or it cannot be read.
        """
        fingerprint = _make_fingerprint(described)
        if self._known is None and self._path is not None and self._path.exists():
            self._known = _load(self._path)
        if self._known is None:
            return {}
        found, columns = self._known
        if found != fingerprint:
            raise UserError(
                f"{self._path}: was made from {_describe_difference(found, fingerprint)}; name "
                "another file, or delete this one to make it again"
            )
        return columns

    def write(self, described: Mapping[str, Any], columns: Mapping[str, np.ndarray]) -> None:
        """Caches the columns of frozen networks; the first process writes the file, if any.

        Raises:
          UserError: the file cannot be written, or the cached columns belong to other images.
        """
        ids = columns["id"]
        if self._known is not None:
            if not np.array_equal(self._known[1].get("id", ids), ids):
                raise UserError(f"{self._path}: was made from images of other names; delete it")
            return
        names = tuple(f"{_PREFIX}{net}." for net in described["networks"])
        kept = {name: rows for name, rows in columns.items() if name.startswith(names)}
        kept |= {"id": ids, "real_digest": columns["real_digest"]}
        self._known = (_make_fingerprint(described), kept)
        if self._path is not None and is_writer():
            _save(self._path, *self._known)


def _make_fingerprint(described: Mapping[str, Any]) -> str:
    kept = {key: described[key] for key in ("examples", "images", "networks")}
    return json.dumps(kept, sort_keys=True)


def _describe_difference(found: str, wanted: str) -> str:
    old, new = json.loads(found), json.loads(wanted)
    words = {"examples": "other images", "images": "another range", "networks": "other networks"}
    return " and ".join(
        f"{words[key]} ({'; '.join(protocol.find_differences(old.get(key), new[key]))})"
        for key in new
        if old.get(key) != new[key]
    )


def _load(path: Path) -> tuple[str, dict[str, np.ndarray]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            columns = {name: file[name] for name in file.files}
        fingerprint = str(columns.pop("fingerprint"))
        json.loads(fingerprint)
        if columns["real_digest"].shape != columns["id"].shape:
            raise ValueError("one digest per image is missing")
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: is no file of reference statistics ({error})") from error
    return fingerprint, columns


def _save(path: Path, fingerprint: str, columns: Mapping[str, np.ndarray]) -> None:
    with write_beside(path) as beside, beside.open("wb") as file:
        np.savez(file, fingerprint=np.array(fingerprint), **columns)  # pyright: ignore[reportArgumentType]
