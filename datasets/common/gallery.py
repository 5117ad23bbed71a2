"""The TFDS builder of gallery tiles without a pair."""

import tensorflow_datasets as tfds

from retroguide_jax.errors import UserError
from retroguide_jax.text import make_printable

from . import builder, checking, storing
from .listing import Problem, Tile


class GalleryBuilder(builder.PairsBuilder, skip_registration=True):
    """Stores the tiles of a listing in a separate data set, with the config and rules of its pairs.

    Sub-classes define `name`. Features: id, aerial (encoded). See `listing.Tile`.
    """

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "id": tfds.features.Text(),
                    "aerial": tfds.features.Image(shape=(None, None, 3)),
                }
            ),
            description=make_printable(
                f"Gallery tiles without a pair of {self.builder_config.found.location}"
            ),
        )

    def _check(self) -> tuple[list[Tile], list[Problem]]:
        config = self.builder_config
        return checking.check_tiles(config.found, config.recipe, self._num_workers)

    def _assign_splits(self, kept: list[Tile]) -> dict[str, list[Tile]]:
        splits: dict[str, list[Tile]] = {}
        for tile in kept:
            splits.setdefault(tile.split, []).append(tile)
        if not splits:
            location = self.builder_config.found.location
            raise UserError(f"{location}: no gallery tile is usable; mend what is listed above")
        return splits

    _make_example = staticmethod(storing.make_tile)
