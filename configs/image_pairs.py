"""Your own photographs: a folder with aerial/ and ground/ matched by name, or a CSV manifest.

    retroguide train --config=image_pairs --config.data.raw_dir=my_pairs --workdir=runs/mine

The networks are those of `city`, without its lines of sight, so that a dozen pairs train on a
laptop; for real work start from `default` and its sizes. Set --config.data.panorama=false if the
ground views are not 360 degrees.
"""

from ml_collections import ConfigDict
from retroguide_jax.configs import city
from retroguide_jax.configs._changes import forget_geometry


def get_config(direction: str = "a2g") -> ConfigDict:
    """`city` on the pairs found in `config.data.raw_dir`."""
    config = city.get_config(direction)
    config.data.name = "image_pairs"
    config.data.config_name = ""
    config.data.raw_dir = ""
    config.data.train_split = "train"
    config.data.val_split = "val"
    forget_geometry(config)
    return config
