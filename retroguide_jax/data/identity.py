"""Finds files of identical content, whatever their names."""

import collections
import concurrent.futures
import hashlib
import os
from collections.abc import Sequence

import numpy as np


def find_equal_files(paths: Sequence[str | os.PathLike[str]]) -> list[str]:
    """Maps each path to the first path whose file has identical content.

    Only files of equal size are read. A file that cannot be read equals only itself.

    Args:
      paths: files, in any order; duplicates are allowed.

    Returns:
      One path per input: the first of `paths` whose file holds the same bytes.
    """
    found = [os.fspath(path) for path in paths]
    by_size = collections.defaultdict(list)
    for path in dict.fromkeys(found):
        by_size[_measure(path)].append(path)
    doubtful = [path for same in by_size.values() if len(same) > 1 for path in same]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        digests = dict(zip(doubtful, pool.map(_hash, doubtful), strict=True))
    first: dict[str, str] = {}
    return [first.setdefault(digests.get(path) or path, path) for path in found]


def name_places(
    ids: Sequence[str],
    aerials: Sequence[str | os.PathLike[str]] | None,
    grounds: Sequence[str | os.PathLike[str]] | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Derives aerial ids and positives of pairs from their files, for `ranking.find_places`.

    Args:
      ids: ids of the pairs.
      aerials, grounds: the files of the pairs; None if the pairs have no such view.

    Returns:
      (aerial_id, str [N]: the id of the first pair with an identical aerial file (ground file if
      there are no aerials); positives, str [N]: the aerial_ids of all pairs with an identical
      ground file, joined by line breaks).
    """
    names = _name_equal(ids, aerials if aerials is not None else grounds or ())
    places = collections.defaultdict(dict)
    same_ground = _name_equal(ids, grounds) if grounds is not None else names
    for name, ground in zip(names, same_ground, strict=True):
        places[ground][name] = True
    return np.array(names), np.array(["\n".join(places[ground]) for ground in same_ground])


def _name_equal(ids: Sequence[str], paths: Sequence[str | os.PathLike[str]]) -> list[str]:
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
