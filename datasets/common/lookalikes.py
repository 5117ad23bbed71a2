"""Finds near-duplicate images: files that look alike but differ in bytes, such as resaved tiles."""

from collections.abc import Mapping

import numpy as np
from PIL import Image

_SIDE = 16
_MOST_APART = 3.0  # mean difference over a thumbnail, levels of 255; JPEG of quality 75 is below


def make_thumbnail(pixels: np.ndarray) -> np.ndarray:
    """Downsamples uint8 `[H, W, 3]` to a flat thumbnail, uint8 `[16 x 16 x 3]`."""
    small = Image.fromarray(pixels).resize((_SIDE, _SIDE), Image.Resampling.BOX)
    return np.asarray(small).reshape(-1)


def find_lookalikes(thumbnails: Mapping[str, np.ndarray]) -> list[tuple[str, str]]:
    """Returns near-duplicates as pairs (file, the first file it looks like).

    Args:
      thumbnails: thumbnails from `make_thumbnail` by file; files of identical content only once.
    """
    if not thumbnails:
        return []
    names, rows = list(thumbnails), np.stack(list(thumbnails.values())).astype(np.int16)
    # Images that look alike have similar means, so each is compared with its neighbours by mean.
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
