"""Retrieval from an index, with a source image or the view generated from it as the query."""

from typing import Any, NamedTuple

import numpy as np

from retroguide_jax.data import catalog, images
from retroguide_jax.errors import UserError
from retroguide_jax.inference import Model
from retroguide_jax.retrieval.embedding import check_weights
from retroguide_jax.retrieval.index import Index
from retroguide_jax.retrieval.pictures import Examples, open_pictures
from retroguide_jax.retrieval.searching import search

_TOP = 5
_NUM_EXAMPLES = 6


class Example(NamedTuple):
    """A source image for visitors who have none of their own.

    id: as in the index, so that the page recognises the correct match.
    picture: uint8 [H, W, 3], of the model's source size.
    """

    id: str
    picture: np.ndarray


class Found(NamedTuple):
    """A retrieved entry of the index.

    id, coordinates: as `Entry`.
    similarity: cosine to the query, -1..1.
    picture: uint8 [H, W, 3]; None where it can no longer be read.
    """

    id: str
    coordinates: tuple[float, float] | None
    similarity: float
    picture: np.ndarray | None


class Gallery:
    """An index with the images it was built from.

    Attributes:
      view: of its images, "aerial" or "ground".
      asks_with_source: True where the source image is the query; False where the index holds source
        images, so that the first generated view is the query.
      examples: a few source images; empty where neither the index nor its data set has any.
    """

    def __init__(self, index: Index, model: Model):
        """Opens the images of an index.

        Raises:
          UserError: another embedder made the index; its data set cannot be opened; an example
            cannot be read.
        """
        check_weights(index, model)
        self._index, self._model = index, model
        self._get_picture = open_pictures(index, model.config.data)
        self.view = index.about.view
        self.asks_with_source = self.view != model.source_view
        self.examples = [
            Example(entry_id, images.decode_image(encoded, model.source_size, name=entry_id))
            for entry_id, encoded in self._list_sources()
        ]

    def __len__(self) -> int:
        return len(self._index)

    def find(self, source: np.ndarray, generated: np.ndarray) -> list[Found]:
        """The entries most similar to a query, the most similar first.

        Args:
          source: uint8 [H, W, 3], of the model's source size.
          generated: uint8 [H', W', 3], a view generated from it.

        Raises:
          UserError: the index is damaged.
        """
        model = self._model
        query = (source, model.source_view)
        if not self.asks_with_source:
            query = (generated, model.target_view)
        picture, view = query
        row = np.asarray(model.embed(picture[None], view), np.float32)
        nearest = search(self._index, row, _TOP)
        entries = [self._index.entries[number] for number in nearest.indices[0]]
        similarities = nearest.similarities[0].tolist()
        return [
            Found(entry.id, entry.coordinates, similarity, self._read(entry))
            for entry, similarity in zip(entries, similarities, strict=True)
        ]

    def _read(self, entry) -> np.ndarray | None:
        size = self._model.networks.sizes[self.view]
        try:
            return images.decode_image(self._get_picture(entry), size, name=entry.id)
        except UserError:
            return None

    def _list_sources(self) -> list[tuple[str, Any]]:
        """Ids and encoded images of a few source images, spread evenly over all of them."""
        about = self._index.about
        if not self.asks_with_source:
            entries = self._index.entries
            chosen = [entries[row] for row in _spread(len(entries))]
            return [(entry.id, self._get_picture(entry)) for entry in chosen]
        if about.split is None:
            return []
        builder = catalog.open_dataset(self._model.config.data, about.data_dir, build=False)
        examples = Examples(builder, about.split, self._model.source_view)
        chosen = [examples[row] for row in _spread(len(examples))]
        return [(entry.id, encoded) for entry, encoded in chosen]


def _spread(length: int) -> list[int]:
    return np.linspace(0, length - 1, min(length, _NUM_EXAMPLES), dtype=int).tolist()
