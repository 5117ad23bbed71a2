"""Coordinates of images, from a CSV file of id,latitude,longitude."""

from pathlib import Path

from retroguide_jax.datasets.common import tables
from retroguide_jax.errors import UserError
from retroguide_jax.text import join_few

_COLUMNS = ("id", "latitude", "longitude")


def read_coordinates(path: Path) -> dict[str, tuple[float, float]]:
    """Reads latitude and longitude in degrees by id, the path of an image without its suffix.

    The first line names the columns; columns other than these three are ignored.

    Raises:
      UserError: it is no UTF-8 CSV file, lacks a column, or has rows that cannot be used: the first
        ten are listed.
    """
    rows = tables.read_csv(path)
    header = [name.strip().lower() for name in rows[0][1]] if rows else []
    if any(header.count(name) != 1 for name in _COLUMNS):
        raise UserError(f"{path}: the first line must name each of {','.join(_COLUMNS)} once")
    columns = [header.index(name) for name in _COLUMNS]
    found: dict[str, tuple[float, float]] = {}
    bad = []
    for number, row in rows[1:]:
        try:
            name, coordinates = _parse(row, columns)
            if name in found:
                raise tables.BadRowError(f"has the id {name!r} of an earlier row")
            found[name] = coordinates
        except tables.BadRowError as error:
            bad.append(f"row {number} {error}")
    if bad:
        raise UserError(f"{path}: {join_few(bad, 'rows cannot be used')}; mend or remove them")
    return found


def _parse(row: list[str], columns: list[int]) -> tuple[str, tuple[float, float]]:
    if len(row) <= max(columns):
        raise tables.BadRowError(f"has {len(row)} columns, {max(columns) + 1} are needed")
    name, *cells = (row[column].strip() for column in columns)
    latitude, longitude = (
        tables.parse_number(column, cell or "empty")
        for column, cell in zip(_COLUMNS[1:], cells, strict=True)
    )
    if not name or abs(latitude) > 90 or abs(longitude) > 180:
        raise tables.BadRowError("has no id, or lies outside -90..90 and -180..180 degrees")
    return name, (latitude, longitude)
