"""A miniature CVUSA: noise in the published folders, with split files in the published format."""

import csv

import numpy as np
from PIL import Image


def write_tree(
    root, num_train=32, num_val=8, *, lists="splits", header=(), num_columns=3, aerial_size=96,
):  # fmt: skip
    """Writes aerials, panoramas of 64 x 352, both split files and the positions of all.

    Args:
      lists: the folder of the split files.
      header: names of columns to put above the rows.
      num_columns: 2 leaves the annotations out of the lists; their files never exist.
      aerial_size: pixels.
    """
    rng = np.random.default_rng(0)
    rows = []
    for number in range(1, num_train + num_val + 1):
        names = [f"{folder}/{number:07d}.jpg" for folder in ("bingmap/19", "streetview/panos")]
        for name, size in zip(names, ((aerial_size, aerial_size), (64, 352)), strict=True):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            noise = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
            Image.fromarray(noise).save(root / name, quality=90)
        rows.append([*names, f"streetview/annotations/{number:07d}.png"][:num_columns])
    # Shuffled, as published: only the id identifies a pair's row of all.csv.
    rng.shuffle(rows)
    parts = {"train": rows[:num_train], "val": rows[num_train:]}
    for split, part in parts.items():
        write_csv(find_list(root, split, lists), [header, *part] if header else part)
    # Tenths of degrees: aerials east and north of the panoramas, and a fifth column.
    positions = [
        [f"{30 + n / 100:.6f}", f"{-80 + n / 100:.6f}", f"{20 + n / 100:.6f}", f"{-n:.6f}", "7"]
        for n in range(1, len(rows) + 1)
    ]
    write_csv(root / "split_locations" / "all.csv", positions)
    return root


def find_list(root, split, lists="splits"):
    """The split file of a split."""
    return root / lists / f"{split}-19zl.csv"


def read_rows(path):
    """The rows of a split file."""
    with path.open(newline="") as file:
        return list(csv.reader(file))


def write_csv(path, rows):
    """Writes a list; replaces an existing one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
