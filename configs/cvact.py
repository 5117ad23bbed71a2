"""CVACT: 256 x 256 aerials, 128 x 512 panoramas: the full 180 degrees, squeezed.

    retroguide train --config=cvact --config.data.raw_dir=CVACT --workdir=runs/cvact

--config.data.config_name=half takes the panoramas' middle rows instead (90 degrees, as retrieval
papers do), corrected_full and corrected_half the subset with corrected aerials. Also
--config=cvact:g2a, cvact:smoke (or cvact:g2a,smoke) to try a new folder in two minutes, and
cvact:chips, whose networks fill a chip (docs/plan.md). Papers on synthesis test on the split `val`.
Not yet run on the real data.
"""

from ml_collections import ConfigDict
from retroguide_jax.configs import _photographs


def get_config(argument: str = "a2g") -> ConfigDict:
    """See the module; `argument` as in `_photographs.get_config`."""
    config = _photographs.get_config("cvact", "full", argument)
    config.data.test_split = "val"
    return config
