"""CVUSA (CVPR subset): 256 x 256 aerials, 128 x 512 panoramas that are 90 degrees tall.

    retroguide train --config=cvusa --config.data.raw_dir=CVUSA --workdir=runs/cvusa

Also --config=cvusa:g2a, cvusa:smoke (or cvusa:g2a,smoke) to try a new folder in two minutes, and
cvusa:chips, whose networks fill a chip (docs/plan.md).
The published test set is the split `val`. Not yet run on the real data, which cannot be fetched
without its authors' consent.
"""

from ml_collections import ConfigDict
from retroguide_jax.configs import _photographs


def get_config(argument: str = "a2g") -> ConfigDict:
    """See the module; `argument` as in `_photographs.get_config`."""
    config = _photographs.get_config("cvusa", "", argument)
    config.data.test_split = "val"
    return config
