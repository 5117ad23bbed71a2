"""Files that look alike though their bytes differ: a tile that was saved again."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from PIL import Image

_SIDE = 16
_MOST_APART = 3.0  # levels of 255, on average over a thumbnail; JPEG of quality 75 stays below


def make_thumbnail(pixels: np.ndarray) -> np.ndarray:
    """uint8 `[16 x 16 x 3]` of uint8 `[H, W, 3]`."""
    small = Image.fromarray(pixels).resize((_SIDE, _SIDE), Image.Resampling.BOX)
    return np.asarray(small).reshape(-1)


def find_lookalikes(thumbnails: Mapping[str, np.ndarray]) -> list[tuple[str, str]]:
    """Pairs (a file, the first that it looks like).

    Args:
      thumbnails: of each file, by `make_thumbnail`; files of equal content once.
    """
    if not thumbnails:
        return []
    names, rows = list(thumbnails), np.stack(list(thumbnails.values())).astype(np.int16)
    # Alike ones have about the same mean: each is compared with its neighbours in that order.
    means = rows.mean(axis=1)
    order = np.argsort(means, kind="stable")
    sorted_means = means[order]
    first: dict[int, int] = {}
    for place, row in enumerate(order):
        end = np.searchsorted(sorted_means, means[row] + _MOST_APART, side="right")
        others = order[place + 1 : end]
        apart = np.abs(rows[others] - rows[row]).mean(axis=1)
        for other in others[apart <= _MOST_APART]:
            first.setdefault(int(other), int(row))
    return [(names[row], names[like]) for row, like in sorted(first.items())]
