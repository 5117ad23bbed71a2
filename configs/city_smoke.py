"""Everything of `city` in a few seconds: tiny networks, 64 pairs, ten steps. For tests.

retroguide train --config=city_smoke --workdir=runs/smoke
"""

from ml_collections import ConfigDict
from retroguide_jax.configs import city


def get_config(direction: str = "a2g") -> ConfigDict:
    """The same method and code paths as `city`; the pictures mean nothing."""
    config = city.get_config(direction)
    config.data.config_name = "city_smoke"
    config.data.train_split = "train[8:]"
    config.data.val_split = "train[:8]"
    config.embedder.saig.width = 16
    config.embedder.saig.depth = 1
    config.embedder.saig.num_heads = 2
    config.embedder.saig.stem_features = (8, 8, 16, 16)
    config.generator.structure_features = (16, 8, 8)
    config.generator.facade_features = (8,)
    config.generator.width = 16
    config.generator.reader_width = 32
    config.generator.start_rank = 2
    config.generator.z_dim = 8
    config.generator.style_dim = 4
    config.generator.mapping_depth = 1
    config.generator.style_features = (8, 8)
    config.generator.mask_width = 4
    config.generator.modulation_hidden = 8
    config.discriminator.features = (8, 8, 8)
    config.discriminator.width = 16
    config.losses.penalty_every = 4
    config.train.num_steps = 10
    config.train.batch_size = 16
    config.train.adversarial_batch_size = 8
    config.train.contrastive_warmup_steps = 2
    config.train.structure_steps = 2
    config.train.contrastive_every = 2
    config.train.log_every = 2
    config.train.sample_every = 5
    config.train.checkpoint_every = 4
    config.eval.every = 5
    config.eval.batch_size = 8
    config.eval.num_noises = 2
    return config
