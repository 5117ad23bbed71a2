"""Which files are the same file: by their content, whatever they are called."""

from __future__ import annotations

import collections
import concurrent.futures
import hashlib
import os
from collections.abc import Sequence

import numpy as np


def find_equal_files(paths: Sequence[str | os.PathLike]) -> list[str]:
    """Names the first file of equal content for each path.

    Only files of equal size are read. A file that cannot be read equals itself alone.

    Args:
      paths: files, in any order, some of them more than once.

    Returns:
      One of `paths` each: the first whose file holds the same bytes.
    """
    by_size = collections.defaultdict(list)
    for path in dict.fromkeys(map(os.fspath, paths)):
        by_size[_measure(path)].append(path)
    doubtful = [path for same in by_size.values() if len(same) > 1 for path in same]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        digests = dict(zip(doubtful, pool.map(_hash, doubtful), strict=True))
    first: dict[str, str] = {}
    return [first.setdefault(digests.get(path) or path, path) for path in map(os.fspath, paths)]


def name_places(
    ids: Sequence[str],
    aerials: Sequence[str | os.PathLike] | None,
    grounds: Sequence[str | os.PathLike] | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Names what pairs of files show, for `ranking.find_places`.

    Args:
      ids: of the pairs.
      aerials, grounds: the files of the pairs; None where there are none.

    Returns:
      (aerial_id str [N], that of the first pair of an equal aerial (or, without aerials, ground)
      file; positives str [N], joined by line breaks: those of all pairs of an equal ground file).
    """
    names = _name_equal(ids, aerials if aerials is not None else grounds)
    places = collections.defaultdict(dict)
    same_ground = _name_equal(ids, grounds) if grounds is not None else names
    for name, ground in zip(names, same_ground, strict=True):
        places[ground][name] = True
    return np.array(names), np.array(["\n".join(places[ground]) for ground in same_ground])


def _name_equal(ids: Sequence[str], paths: Sequence[str | os.PathLike]) -> list[str]:
    first: dict[str, str] = {}
    equal = find_equal_files(paths)
    return [first.setdefault(path, name) for path, name in zip(equal, ids, strict=True)]


def _measure(path: str) -> int | str:
    try:
        return os.stat(path).st_size
    except (OSError, ValueError):
        return path


def _hash(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError):
        return path
