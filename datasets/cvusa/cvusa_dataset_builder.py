"""cvusa: the pairs that the published split files of CVUSA's CVPR subset name."""

from pathlib import Path

from ..common import builder, storing
from ..common.listing import Listing
from . import folder_layout


class Builder(builder.PairsBuilder):
    """TFDS builder of `cvusa`."""

    @classmethod
    def list_raw(cls, data_config) -> Listing:
        """Lists the pairs in `config.data.raw_dir`."""
        return folder_layout.list_pairs(Path(data_config.raw_dir).expanduser())

    @classmethod
    def make_recipe(cls, data_config) -> storing.Recipe:
        """Square aerials; panoramas of 224 x 1232 (height x width) that extend 45 degrees up."""
        return builder.make_recipe(
            data_config, vertical_fov=90.0, aerial_aspect=1.0, ground_aspect=1232 / 224
        )
