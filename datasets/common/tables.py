"""Reads lists of users' files: any CSV dialect, and paths that must stay inside a folder."""

import codecs
import csv
import functools
import io
import math
import os
import re
from pathlib import Path

from retroguide_jax.errors import UserError
from retroguide_jax.files import find_inside

_DELIMITERS = ",;\t|"
_STATED_DELIMITER = re.compile(r"sep=([,;\t|])\r?\n", re.IGNORECASE)
_QUOTED = re.compile(r'"(?:[^"]|"")*"')
_HEAD = 2**16  # characters searched for the first row
_DRIVE = re.compile(r"[A-Za-z]:/")


class BadRowError(Exception):
    """A row cannot be used; the message gives the reason, `kind` is as in `listing.Problem`."""

    def __init__(self, reason: str, kind: str = "row"):
        super().__init__(reason)
        self.kind = kind


def read_text(path: Path) -> str:
    """The text of a file in UTF-8 or, with a byte-order mark, UTF-16; line ends are unchanged.

    Raises:
      UserError: it cannot be read, or is not such text.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; check the path") from error
    if content.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise UserError(f"{path}: a spreadsheet's own file; export it as CSV in UTF-8")
    is_wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if is_wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: not text in UTF-8 ({error}); save it as such (spreadsheets: CSV UTF-8)"
        ) from error


def read_csv(path: Path) -> list[tuple[int, list[str]]]:
    """The non-empty rows of a CSV file with their row numbers, counted from 1.

    The delimiter (comma, semicolon, tab or bar) is the one that gives most cells in the first row,
    or the one of a preceding line such as "sep=;".

    Raises:
      UserError: the file cannot be read, or is not CSV in UTF-8 or UTF-16.
    """
    lines = io.StringIO(read_text(path), newline="")
    stated = _STATED_DELIMITER.match(lines.getvalue())
    delimiter = stated[1] if stated else _find_delimiter(lines.getvalue())
    try:
        rows = list(csv.reader(lines, delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise UserError(f"{path}: not a CSV file in UTF-8 ({error}); save it as one") from error
    numbered = list(enumerate(rows, start=1))[1 if stated else 0 :]
    return [(number, row) for number, row in numbered if any(cell.strip() for cell in row)]


def _find_delimiter(text: str) -> str:
    bare = _QUOTED.sub('""', text[:_HEAD])
    first = next((line for line in bare.splitlines() if line.strip(_DELIMITERS + " ")), "")

    def count_cells(delimiter: str) -> int:
        cells = first.rstrip(delimiter).split(delimiter)
        return len(cells) if all(cell.strip() for cell in cells) else 0

    return max(_DELIMITERS, key=count_cells)  # the comma if no delimiter occurs


def resolve_inside(root: Path, name: str) -> str:
    """The path of a listed name; a list must not lead to files outside its folder.

    Args:
      root: the folder to which the name is relative.
      name: the listed name, with / or \\ between folders; see `files.find_inside`.

    Raises:
      BadRowError: the name is empty, absolute, or leads out of the folder.
    """
    if not name:
        raise BadRowError("has an empty path")
    local = name.replace("\\", "/")
    if "\0" in local:
        raise BadRowError(f"path {name!r} cannot be followed")
    if _DRIVE.match(local):
        raise BadRowError(
            f"path {name!r} begins with a drive: write it relative to the folder {root.name}"
        )
    path = find_inside(root, local)
    if path is None:
        raise BadRowError(f"path {name!r} leaves the folder {root.name}")
    return str(path if os.path.lexists(path) else _find_other_case(path))


def _find_other_case(path: Path) -> Path:
    """The only file whose name differs just in case, as in lists from Windows; else `path`."""
    try:
        names = _list_by_case(path.parent, path.parent.stat().st_mtime_ns)
    except OSError:
        return path
    same = names.get(path.name.casefold(), ())
    return path.with_name(same[0]) if len(same) == 1 else path


@functools.lru_cache(maxsize=8)
def _list_by_case(folder: Path, _: int) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for name in os.listdir(folder):
        names.setdefault(name.casefold(), []).append(name)
    return names


def parse_number(name: str, cell: str) -> float:
    """A finite number, or NaN for an empty cell; a decimal comma is accepted.

    Raises:
      BadRowError: the cell is neither empty nor a finite number.
    """
    if not cell:
        return math.nan
    try:
        number = float(cell.replace(",", ".") if cell.count(",") == 1 and "." not in cell else cell)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise BadRowError(f"{name} is {cell!r}, not a number")
    return number
