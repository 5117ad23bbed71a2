"""image_pairs: your own photographs, in two folders, by a manifest, or side by side in one file."""

import dataclasses
from pathlib import Path

from ..common import builder, storing
from ..common.listing import Listing
from . import combined, listing


class Builder(builder.PairsBuilder):
    """TFDS builder of `image_pairs`."""

    VARIANTS = ("", *combined.FORMATS)

    @classmethod
    def list_raw(cls, data_config) -> Listing:
        """Lists the pairs of `config.data.raw_dir` in the format that config_name selects."""
        raw_dir, variant = Path(data_config.raw_dir).expanduser(), cls.choose_variant(data_config)
        return combined.list_pairs(raw_dir, variant) if variant else listing.list_pairs(raw_dir)

    @classmethod
    def make_recipe(cls, data_config) -> storing.Recipe:
        """Images of any size that is not smaller than the model's image size."""
        variant = cls.choose_variant(data_config)
        if not variant:
            return builder.make_recipe(data_config, vertical_fov=180.0)
        wanted = combined.FORMATS[variant]
        recipe = builder.make_recipe(data_config, vertical_fov=wanted.vertical_fov)
        others = [item for item in combined.FORMATS.items() if item[0] != variant]
        strips = tuple((name, form.times) for name, form in [(variant, wanted), *others])
        return dataclasses.replace(
            recipe,
            aerial=dataclasses.replace(recipe.aerial, strips=strips),
            ground=dataclasses.replace(recipe.ground, strips=strips),
        )
