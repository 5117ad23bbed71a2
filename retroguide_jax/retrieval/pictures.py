"""The images that an index is built from and that it shows: files, or a data set's examples.

Both are sequences of (entry, encoded image: a path or bytes).
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path

from retroguide_jax.data import catalog
from retroguide_jax.data.listing import list_images, make_id
from retroguide_jax.data.reading import get_id, open_source
from retroguide_jax.errors import UserError
from retroguide_jax.files import find_inside
from retroguide_jax.retrieval.entries import Entry
from retroguide_jax.retrieval.index import Index

# Features with an example's coordinates: of photographs, of procedural_city (x, y, height).
_PLACES = ("position", "camera")


def list_files(
    folder: Path, coordinates: Mapping[str, tuple[float, float]] | None = None
) -> list[tuple[Entry, Path]]:
    """The image files of a folder and its sub-folders, sorted by path.

    Args:
      folder: see `listing.list_images`.
      coordinates: id -> coordinates of some or all files; an id may include the file's suffix.

    Raises:
      UserError: as `listing.list_images`.
    """
    found = list_images(folder)
    places = (coordinates or {}).items()
    known = {name if name in found else make_id(name): place for name, place in places}
    return [
        (Entry(name, path=path.relative_to(folder).as_posix(), coordinates=known.get(name)), path)
        for name, path in found.items()
    ]


class Examples:
    """One view of a split of a data set. The id of an aerial image is that of its tile."""

    def __init__(self, builder, split: str, view: str):
        """Opens the split of a built data set (`catalog.open_dataset`).

        Raises:
          UserError: the split is unknown or empty.
        """
        self._view = view
        self._source = open_source(builder, split, also=("aerial_id", *_PLACES))

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, position: int) -> tuple[Entry, bytes]:
        """The example at a position in the split.

        Raises:
          UserError: its record cannot be read.
        """
        example = self._source[position]
        has_tile = self._view == "aerial" and "aerial_id" in example
        name = get_id(example, "aerial_id" if has_tile else "id")
        places = [example[name] for name in _PLACES if name in example]
        coordinates = (float(places[0][0]), float(places[0][1])) if places else None
        if coordinates and not all(map(math.isfinite, coordinates)):
            coordinates = None
        return Entry(name, position=position, coordinates=coordinates), example[self._view]


def open_pictures(index: Index, data_config) -> Callable[[Entry], Path | bytes]:
    """Opens the images that an index was built from.

    Args:
      index: built from a folder or a data set, which must still exist.
      data_config: `config.data` of the model that made it.

    Returns:
      get(entry) -> its encoded image, for `images.decode_image`. It raises UserError where the path
      of an entry leads out of the folder, or its position lies beyond the end of the split.

    Raises:
      UserError: the data set cannot be opened.
    """
    about = index.about
    if about.split is None:
        root = Path(about.images)  # pyright: ignore[reportArgumentType]

        def get_file(entry: Entry) -> Path:
            path = find_inside(root, entry.path or "..")
            if path is None:
                raise UserError(f"{index.path}: {entry.id!r} leads out of {root}; make it again")
            return path

        return get_file
    builder = catalog.open_dataset(data_config, about.data_dir, build=False)
    examples = Examples(builder, about.split, about.view)

    def get_example(entry: Entry) -> bytes:
        if entry.position is None or not 0 <= entry.position < len(examples):
            raise UserError(
                f"{index.path}: {entry.id!r} is not in the data set; make the index again"
            )
        return examples[entry.position][1]

    return get_example
