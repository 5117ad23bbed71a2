"""Reads ACT_data.mat: the ids of the panoramas, their positions and splits."""

import dataclasses
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import scipy.io

from retroguide_jax.errors import UserError

NAME = "ACT_data.mat"
# Per split: the variable, and its field.
SETS = {
    "train": ("trainSet", "trainInd"),
    "val": ("valSet", "valInd"),
    "test": ("valSetAll", "valInd"),
}
_AGAIN = "fetch it again"
_MAX_SECONDS = 120  # the published file takes a few seconds


@dataclasses.dataclass(frozen=True)
class Table:
    """The content of the file.

    Attributes:
      ids: ids of the N places.
      utm: UTM coordinates, float64 [N, 2], metres.
      indices: indices of the places per split, as in the file, int64 [n]: 1 to N in the published
        file, 0 to N - 1 in a file written 0-based.
    """

    ids: list[str]
    utm: np.ndarray
    indices: Mapping[str, np.ndarray]


def read_table(path: Path) -> Table:
    """Reads ACT_data.mat.

    Published code reads a split as `m["trainSet"]["trainInd"][0][0]` or `m["trainSet"][0][0][1]`,
    so the sets may be structs, cells or plain arrays.

    Raises:
      UserError: the file is damaged, lacks a variable, or its variables are inconsistent.
    """
    wanted = ["panoIds", "utm", *(variable for variable, _ in SETS.values())]
    content = _load(path, wanted)
    absent = [name for name in wanted if name not in content]
    if absent:
        raise UserError(f"{path} has no {', '.join(absent)}; it is not CVACT's file: {_AGAIN}")
    ids = _read_ids(path, content["panoIds"])
    return Table(
        ids=ids,
        utm=_read_utm(path, content["utm"], len(ids)),
        indices={
            split: _read_indices(path, content[variable], variable, field, len(ids))
            for split, (variable, field) in SETS.items()
        },
    )


def _load(path: Path, wanted: list[str]) -> dict[str, np.ndarray]:
    # A subprocess tries the file first: SciPy's reader crashes or hangs on some damaged files.
    trial = "import sys, scipy.io; scipy.io.loadmat(sys.argv[1], appendmat=False)"
    command = [sys.executable, "-c", trial, str(path)]
    try:
        ended = subprocess.run(command, capture_output=True, timeout=_MAX_SECONDS)
        if ended.returncode < 0:
            raise ValueError("reading it ends in a crash")
        return scipy.io.loadmat(path, appendmat=False, variable_names=wanted)
    except Exception as error:  # the error type depends on where the damage is
        detail = " ".join(str(error).split())[:100]
        if isinstance(error, subprocess.TimeoutExpired):
            detail = "reading it does not end"
        raise UserError(f"{path}: not a readable .mat file ({detail}); {_AGAIN}") from error


def _read_ids(path: Path, cells: np.ndarray) -> list[str]:
    ids = []
    for cell in cells.ravel():
        while isinstance(cell, np.ndarray) and cell.size == 1:
            cell = cell.item()
        # Strings in an array are padded to equal lengths.
        ids.append(cell.strip() if isinstance(cell, str) else "")
    num_bad = ids.count("")
    if num_bad or not ids:
        raise UserError(f"{path}: {num_bad} of {len(ids)} panoIds are no text; {_AGAIN}")
    return ids


def _read_utm(path: Path, utm: np.ndarray, num_ids: int) -> np.ndarray:
    if utm.shape != (num_ids, 2) or utm.dtype.kind not in "iuf" or not np.isfinite(utm).all():
        raise UserError(
            f"{path}: utm has the shape {utm.shape}, not two finite numbers for each of {num_ids} "
            f"panoIds; {_AGAIN}"
        )
    return utm.astype(np.float64)


def _read_indices(
    path: Path, value: np.ndarray, variable: str, field: str, num_ids: int
) -> np.ndarray:
    name = f"{path}: {variable}.{field}"
    numbers = _unwrap(value, field)
    if numbers is None or numbers.dtype.kind not in "iuf" or not numbers.size:
        raise UserError(f"{name} is absent or holds no numbers; {_AGAIN}")
    numbers = numbers.ravel()
    is_index = (numbers == np.round(numbers)) & (numbers >= 0) & (numbers <= num_ids)
    if not is_index.all():
        worst = numbers[~is_index][0]
        raise UserError(f"{name} has {worst:g}, not a whole number from 1 to {num_ids}; {_AGAIN}")
    return numbers.astype(np.int64)


def _unwrap(value, field: str) -> np.ndarray | None:
    """Extracts the array from nested structs (by field) and cells (the second member)."""
    while value.dtype.names or value.dtype == object:
        if value.dtype.names:
            if field not in value.dtype.names:
                return None
            value = np.asarray(value[field])
        members = value.ravel()
        if value.dtype != object or not members.size:
            return None
        value = np.asarray(members[min(1, members.size - 1)])
    return value
