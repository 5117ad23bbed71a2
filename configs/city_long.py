"""The reference run of the procedural city: a better guide and many more updates than the demo.

    retroguide train --config=city_long --workdir=runs/city_long

Some 80 minutes on one CPU core. Another direction: --config=city_long:g2a.
"""

from ml_collections import ConfigDict
from retroguide_jax.configs import city


def get_config(direction: str = "a2g") -> ConfigDict:
    """`city` with a guide that is trained first and then kept; `direction` is a2g or g2a."""
    config = city.get_config(direction)
    config.generator.normalise_last = True
    config.train.contrastive_warmup_steps = 1000
    config.train.contrastive_every = 0
    config.train.structure_steps = 7000
    config.train.num_steps = 20_000  # 1,000 of the embedder, 7,000 of the structure stage, 12,000
    config.train.ema_halflife_generator = 500.0
    config.train.log_every = 100
    config.train.sample_every = 2000
    config.train.checkpoint_every = 1000
    config.eval.every = 20_000
    return config
