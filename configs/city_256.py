"""The procedural city at full size, for one accelerator: 256 x 256 aerials, 128 x 512 panoramas.

    retroguide train --config=city_256 --workdir=runs/city_256

SAIG-S and the full generator in bfloat16. Not yet run: no accelerator was available.
"""

from ml_collections import ConfigDict
from retroguide_jax.configs import _photographs


def get_config(direction: str = "a2g") -> ConfigDict:
    """The full-size recipe on `city_256`; `direction` is a2g or g2a."""
    return _photographs.get_full_size(direction)
