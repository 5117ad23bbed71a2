"""cvact: the pairs that ACT_data.mat names, with complete panoramas or their middle rows."""

from pathlib import Path

from ..common import builder, storing
from ..common.listing import Box, Listing
from . import folder_layout

# Rows h/4 .. 3h/4, 45 degrees up and down: the part of a panorama that retrieval papers use.
_MIDDLE = Box(0.0, 0.25, 1.0, 0.75)


class Builder(builder.PairsBuilder):
    """TFDS builder of `cvact`."""

    VARIANTS = ("full", "half", "corrected_full", "corrected_half")

    @classmethod
    def list_raw(cls, data_config) -> Listing:
        """Lists `config.data.raw_dir` with the aerials that `config.data.config_name` selects."""
        is_corrected = cls.choose_variant(data_config).startswith("corrected")
        return folder_layout.list_pairs(Path(data_config.raw_dir).expanduser(), is_corrected)

    @classmethod
    def make_recipe(cls, data_config) -> storing.Recipe:
        """Square aerials; panoramas twice as wide as tall, or with `half` their middle rows."""
        is_half = cls.choose_variant(data_config).endswith("half")
        return builder.make_recipe(
            data_config,
            vertical_fov=180.0,
            aerial_aspect=1.0,
            ground_aspect=2.0,
            ground_box=_MIDDLE if is_half else None,
        )
