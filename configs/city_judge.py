"""A strong judge of `city`: an embedder trained on degraded real images.

    retroguide train --config=city_judge --workdir=runs/judge_saig
    retroguide train --config=city_judge:convnext --workdir=runs/judge_convnext

`city_retrieval`, trained for longer on images that are degraded as generated ones are. Every
evaluation of every run can use them; both are installed, as `pretrained:city_judge_saig` and
`pretrained:city_judge_convnext`.
"""

from ml_collections import ConfigDict
from retroguide_jax.configs import city_retrieval


def get_config(backbone: str = "saig") -> ConfigDict:
    """A judge of one of two families; `backbone` is saig or convnext."""
    config = city_retrieval.get_config(backbone)
    # All pairs but the last 128, so that the validation split differs from that of `city`.
    config.data.train_split = "train[:-128]"
    config.data.val_split = "train[-128:]"
    config.train.degrade = True
    config.train.num_steps = 1500
    config.eval.every = 500
    config.train.checkpoint_every = 250
    return config
