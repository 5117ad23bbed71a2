"""Reading lists that other people wrote: CSV in all its forms, paths that stay inside a folder."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

from retroguide_jax.errors import UserError
from retroguide_jax.files import find_inside


class BadRowError(Exception):
    """Why a row cannot be used; `kind` as in `listing.Problem`."""

    def __init__(self, reason: str, kind: str = "row"):
        super().__init__(reason)
        self.kind = kind


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, with or without a byte-order mark; line ends are left alone.

    Raises:
      UserError: it cannot be read, or is not UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; check the path") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not text in UTF-8 ({error}); save it as such") from error


def read_csv(path: Path) -> list[tuple[int, list[str]]]:
    """The rows of a CSV file that are not empty, with their numbers counted from 1.

    Raises:
      UserError: the file cannot be read, or is not UTF-8 CSV.
    """
    text = read_text(path)
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        raise UserError(f"{path}: not a CSV file in UTF-8 ({error}); save it as one") from error
    numbered = enumerate(rows, start=1)
    return [(number, row) for number, row in numbered if any(cell.strip() for cell in row)]


def resolve_inside(root: Path, name: str) -> str:
    """The path of a listed name; a list must not make us read files outside its folder.

    Args:
      root: the folder the name is relative to.
      name: as listed, with / or \\ between folders; see `files.find_inside`.

    Raises:
      BadRowError: the name is empty, absolute, or leads out of the folder.
    """
    if not name:
        raise BadRowError("has an empty path")
    local = name.replace("\\", "/")
    if "\0" in local:
        raise BadRowError(f"path {name!r} cannot be followed")
    path = find_inside(root, local)
    if path is None:
        raise BadRowError(f"path {name!r} leaves the folder {root.name}")
    return str(path)


def parse_number(name: str, cell: str) -> float:
    """A finite number, or NaN for an empty cell.

    Raises:
      BadRowError: it is neither.
    """
    if not cell:
        return math.nan
    try:
        number = float(cell)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise BadRowError(f"{name} is {cell!r}, not a number")
    return number
