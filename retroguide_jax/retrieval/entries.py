"""The entries of an index: which image each row embeds. One JSON object per line, read lazily."""

import dataclasses
import json
import mmap
import os
import re
from collections.abc import Iterable, Sequence

import numpy as np

from retroguide_jax.errors import UserError

_BLOCK = 2**24  # bytes searched at a time
# The beginning of each line that `Entry.to_line` writes.
_ID = re.compile(rb'^{"id": ("(?:[^"\\]|\\.)*")', re.MULTILINE)


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """One image of an index.

    Attributes:
      id: for a file, its path inside the folder without suffix, "city/0001"; for a data set, the
        example's id.
      path: of the file inside the folder, parts joined by "/"; None for a data set's.
      position: in the split of the data set, from 0; None for a file.
      coordinates: latitude and longitude in degrees, or the data set's own metres, where known.
    """

    id: str
    path: str | None = None
    position: int | None = None
    coordinates: tuple[float, float] | None = None

    def to_line(self) -> bytes:
        """JSON with a line break; fields that are None are left out."""
        fields = dataclasses.asdict(self)
        fields = {name: value for name, value in fields.items() if value is not None}
        return json.dumps(fields).encode() + b"\n"


class Entries(Sequence):
    """The lines of a file as entries; memory holds only the offset of each line's end, 8 bytes."""

    def __init__(self, path: str | os.PathLike):
        """Finds the end of each line.

        Raises:
          OSError, ValueError: the file cannot be read or is empty.
        """
        self._path = path
        with open(path, "rb") as file:
            self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        values = np.frombuffer(self._bytes, np.uint8)
        ends = [
            np.flatnonzero(values[start : start + _BLOCK] == ord("\n")) + start
            for start in range(0, len(values), _BLOCK)
        ]
        self._starts = np.concatenate([[0], *(end + 1 for end in ends)])

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, row: int) -> Entry:
        """The entry of a row, 0 .. N - 1.

        Raises:
          IndexError: there is no such row.
          UserError: its line is no entry.
        """
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        line = self._bytes[self._starts[row] : self._starts[row + 1]]
        try:
            fields = json.loads(line)
            if "coordinates" in fields:
                latitude, longitude = map(float, fields["coordinates"])
                fields["coordinates"] = (latitude, longitude)
            entry = Entry(**fields)
        except (TypeError, ValueError):
            entry = None
        if entry is None or not _is_sound(entry):
            raise UserError(f"{self._path}, line {row + 1}: is damaged; make the index again")
        return entry

    def find_known(self, names: Iterable[str]) -> set[str]:
        """The subset of `names` that are ids of entries; one pass over the file, no parsing."""
        wanted = {json.dumps(name).encode(): name for name in names}
        found = (match[1] for match in _ID.finditer(self._bytes))
        return {wanted[name] for name in found if name in wanted}


def _is_sound(entry: Entry) -> bool:
    is_file = isinstance(entry.path, str) and entry.position is None
    is_example = isinstance(entry.position, int) and entry.path is None
    return isinstance(entry.id, str) and (is_file or is_example)
