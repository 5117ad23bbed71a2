"""The procedural city at full size, for one accelerator: 256 x 256 aerials, 128 x 512 panoramas.

    retroguide train --config=city_256 --workdir=runs/city_256

SAIG-S and the full generator in bfloat16. Not yet run: no accelerator was at hand.
"""

from ml_collections import ConfigDict
from retroguide_jax.configs import default


def get_config(direction: str = "a2g") -> ConfigDict:
    """`default` with the sizes of `city_256`; `direction` is a2g or g2a."""
    config = default.get_config(direction)
    config.dtype = "bfloat16"
    config.train.contrastive_warmup_steps = 2000
    return config
