"""Lists pairs stored side by side in one wide file, as in older repositories."""

import dataclasses
from pathlib import Path

from retroguide_jax.errors import UserError

from ..common.listing import SPLITS, Box, Listing, Pair, Problem, find_duplicates
from .listing import list_images


@dataclasses.dataclass(frozen=True)
class Format:
    """The positions of the two images in a file.

    Attributes:
      times: width / height of the file.
      aerial, ground: (first, last) columns in units of the height; other columns are not read.
      vertical_fov: vertical field of view of the ground image, degrees.
    """

    times: int
    aerial: tuple[int, int]
    ground: tuple[int, int]
    vertical_fov: float = 180.0


# Taken from the repositories' own preparation and loading code.
FORMATS = {
    # X-Fork, X-Seq, SelectionGAN: street | aerial | street labels | aerial labels.
    "x_fork": Format(4, aerial=(1, 2), ground=(0, 1)),
    # SelectionGAN's preparation of CVUSA: aerial | panorama | black | panorama labels.
    "selectiongan_cvusa": Format(10, aerial=(0, 1), ground=(1, 5), vertical_fov=90.0),
    # PanoGAN: aerial | panorama | panorama labels.
    "panogan": Format(9, aerial=(0, 1), ground=(1, 5), vertical_fov=90.0),
}


def list_pairs(raw_dir: Path, name: str) -> Listing:
    """Finds the files of `raw_dir`: in its folders train, val and test, else directly in it.

    The id is the stem, preceded by the split's folder if there is one ("train/0001").

    Args:
      raw_dir: the folder.
      name: one of `FORMATS`.

    Raises:
      UserError: the folder does not exist, or holds no image.
    """
    root = raw_dir.absolute()
    if not root.is_dir():
        raise UserError(f"raw_dir {raw_dir}: no such folder; check the path")
    splits = [split for split in SPLITS if (root / split).is_dir()]
    found: list[Pair] = []
    problems: list[Problem] = []
    for split in splits or [""]:
        paths, others = list_images(root / split)
        problems += others
        found += [_make_pair(path, split, FORMATS[name]) for path in paths]
    if not found and not problems:
        where = ", ".join(str(root / split) for split in splits or [""])
        raise UserError(f"{where}: no images; put the {name} files there, JPEG or PNG")
    pairs, twins = find_duplicates(found)
    notes = []
    beside = len(list_images(root)[0]) if splits else 0
    if beside:
        notes.append(f"{beside} images beside the folders {', '.join(splits)} are not read")
    return Listing(str(root), name, pairs, problems + twins, notes=notes)


def _make_pair(path: Path, split: str, form: Format) -> Pair:
    return Pair(
        id=f"{split}/{path.stem}" if split else path.stem,
        aerial=str(path),
        ground=str(path),
        split=split,
        aerial_box=_make_box(form.aerial, form.times),
        ground_box=_make_box(form.ground, form.times),
    )


def _make_box(columns: tuple[int, int], times: int) -> Box:
    first, last = columns
    return Box(first / times, 0.0, last / times, 1.0)
