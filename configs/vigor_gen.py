"""VIGOR-GEN and its reproducible stand-in: 256 x 256 aerials, 128 x 512 panoramas (180 degrees).

    retroguide train --config=vigor_gen --config.data.raw_dir=VIGOR --workdir=runs/vigor

The default cuts `config.data.crop_metres` of aerial around each camera out of VIGOR's own tiles
(vigor_crop_same_area, with corrected labels); --config.data.config_name names the other pairings
and protocols. Also --config=vigor_gen:g2a, vigor_gen:smoke (or vigor_gen:g2a,smoke) to try a
new folder in two minutes, and vigor_gen:chips, whose networks fill a chip (docs/plan.md). Not yet
run on the real data.
"""

from ml_collections import ConfigDict
from retroguide_jax.configs import _photographs


def get_config(argument: str = "a2g") -> ConfigDict:
    """See the module; `argument` as in `_photographs.get_config`."""
    config = _photographs.get_config("vigor_gen", "vigor_crop_same_area", argument)
    # 30.3 metres is the smallest crop of 256 pixels in every city's tiles (San Francisco's are the
    # coarsest); larger crops leave their tiles more often in Seattle, whose tiles are the finest.
    config.data.crop_metres = 30.3
    return config
