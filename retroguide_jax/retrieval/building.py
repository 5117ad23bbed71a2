"""Builds an index from images."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from retroguide_jax.data import images
from retroguide_jax.data.remarks import Remarks
from retroguide_jax.errors import UserError
from retroguide_jax.inference import Model
from retroguide_jax.retrieval.embedding import embed_pictures
from retroguide_jax.retrieval.entries import Entry
from retroguide_jax.retrieval.index import About, write_index
from retroguide_jax.text import join_few


class Built(NamedTuple):
    """Which images are in the index, and which are not.

    num_entries: number of images in the index.
    num_repeated: number left out because an earlier one has their id, as do pairs of one tile.
    unreadable: one error message per image that could not be read.
    """

    num_entries: int
    num_repeated: int
    unreadable: list[images.UnreadableImageError]


def build_index(
    path: str | os.PathLike,
    model: Model,
    about: About,
    pictures: Sequence[tuple[Entry, Path | bytes]],
    *,
    batch_size: int,
    progress_fn: Callable[[int], object],
    remarks: Remarks | None = None,
) -> Built:
    """Embeds images and writes them batch by batch; memory holds their ids and a few batches.

    Args:
      path: of the folder, which must not exist, or be empty.
      model: its embedder is used.
      about: where model and images come from.
      pictures: the images, see `embedding.embed_pictures`.
      batch_size: images at a time.
      progress_fn: called after each batch with the number of its images.
      remarks: see `embed_pictures`.

    Raises:
      UserError: see `write_index` and `embed_pictures`; or none of the images can be read.
    """
    seen: set[str] = set()
    num_read, unreadable = 0, []
    with write_index(path, about) as append:
        for entries, rows, bad in embed_pictures(model, pictures, about.view, batch_size, remarks):
            kept = []
            for row, entry in enumerate(entries):
                if entry.id not in seen:
                    seen.add(entry.id)
                    kept.append(row)
            if kept:
                append([entries[row] for row in kept], rows[kept])
            num_read += len(entries)
            unreadable += bad
            progress_fn(len(entries) + len(bad))
        if not seen:
            reasons = [f"{error.name} ({error.reason})" for error in unreadable]
            raise UserError(f"{join_few(reasons, 'images cannot be read')}; there are no others")
    return Built(len(seen), num_read - len(seen), unreadable)
