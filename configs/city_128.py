"""The demo at twice the size: 128 x 128 aerials to 64 x 256 panoramas, some hours on two cores.

    retroguide train --config=city_128 --workdir=runs/city_128

The recipe of `city`, with one more halving in the embedder's stem and in D, and a second facade
block in G, so that tokens and start keep their number. Another direction: --config=city_128:g2a.
"""

from ml_collections import ConfigDict
from retroguide_jax.configs import city


def get_config(direction: str = "a2g") -> ConfigDict:
    """`city` at 128 x 128 and 64 x 256; `direction` is a2g or g2a."""
    config = city.get_config(direction)
    config.data.config_name = "city_128"
    config.data.aerial_size = (128, 128)
    config.data.ground_size = (64, 256)
    config.embedder.saig.stem_strides = (2, 2, 2, 2)
    config.generator.unet_features = (24, 48, 96, 128, 128)
    config.generator.facade_features = (32, 16)
    config.discriminator.features = (16, 32, 64, 96)
    return config
