"""An embedder alone on the procedural city: the retrieval baseline, and the judge of `city`.

    retroguide train --config=city_retrieval --workdir=runs/city_retrieval

Seed, stem, width, depth and temperature differ from the conditioning embedder's: a judge of its
own, and a better one on real images than the leaner stem of `city` makes at this size.
"""

from ml_collections import ConfigDict
from retroguide_jax.configs import city


def get_config() -> ConfigDict:
    """Mode contrastive on the data of `city`."""
    config = city.get_config()
    config.mode = "contrastive"
    config.seed = 1001
    config.embedder.temperature = 0.05
    config.embedder.saig.width = 64
    config.embedder.saig.depth = 2
    config.embedder.saig.stem_features = (32, 48, 48, 96, 96, 96)
    config.embedder.saig.stem_strides = (2, 2, 1, 2, 1, 1)
    config.train.num_steps = 250
    config.train.batch_size = 64
    config.train.adversarial_batch_size = 64
    config.train.contrastive_warmup_steps = 0
    config.train.contrastive_every = 1
    config.train.eval_every = 250
    config.train.checkpoint_every = 125
    config.train.best_metric = "r@1_real/embedder"
    return config
