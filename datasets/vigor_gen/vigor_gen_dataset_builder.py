"""vigor_gen: VIGOR's panoramas, each with an aerial image of its place."""

from pathlib import Path

from retroguide_jax.errors import UserError

from ..common import builder, gallery, storing
from ..common.listing import Listing
from . import folder_layout, geometry


class Gallery(gallery.GalleryBuilder, skip_registration=True):
    """TFDS builder of the gallery tiles that are the positive of no test pair."""

    name = "vigor_gen_gallery"


class Builder(builder.PairsBuilder):
    """TFDS builder of `vigor_gen`."""

    VARIANTS = folder_layout.VARIANTS
    GALLERY = Gallery

    @classmethod
    def list_raw(cls, data_config) -> Listing:
        """Lists `config.data.raw_dir`, paired as `config.data.config_name` defines."""
        metres = float(data_config.crop_metres)
        smallest = min(folder_layout.CITIES, key=geometry.measure_tile)
        covered = geometry.measure_tile(smallest)
        if not 0 < metres <= covered:
            raise UserError(
                f"config.data.crop_metres is {metres:g}: give more than 0, and no more than the "
                f"{covered:.1f} that a tile of {smallest} covers"
            )
        variant = cls.choose_variant(data_config)
        return folder_layout.list_pairs(Path(data_config.raw_dir).expanduser(), variant, metres)

    @classmethod
    def make_recipe(cls, data_config) -> storing.Recipe:
        """Complete panoramas, twice as wide as tall; square aerials."""
        return builder.make_recipe(
            data_config,
            vertical_fov=180.0,
            aerial_aspect=1.0,
            ground_aspect=2.0,
            pads=data_config.crop_outside == "pad",
        )
