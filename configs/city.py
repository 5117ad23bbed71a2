"""The demo: 64 x 64 aerials to 32 x 128 panoramas of the procedural city, on two CPU cores.

    retroguide train --config=city --workdir=runs/city

Another direction: --config=city:g2a.
"""

from ml_collections import ConfigDict
from retroguide_jax.configs import default


def get_config(direction: str = "a2g") -> ConfigDict:
    """Small networks, the whole method; `direction` is a2g or g2a."""
    config = default.get_config()
    config.direction = direction
    config.data.config_name = "city_64"
    config.data.train_split = "train[128:]"
    config.data.val_split = "train[:128]"
    config.data.aerial_size = (64, 64)
    config.data.ground_size = (32, 128)

    config.embedder.temperature = 0.07
    config.embedder.saig.width = 96
    config.embedder.saig.depth = 3
    config.embedder.saig.num_heads = 4
    config.embedder.saig.stem_features = (32, 64, 96, 96)
    config.embedder.saig.stem_strides = (2, 2, 2, 1)
    config.embedder.saig.stem_norm = "group"

    config.generator.unet_features = (24, 48, 96, 128)
    config.generator.structure_features = (128, 96, 48)
    config.generator.facade_features = (24,)
    config.generator.width = 128
    config.generator.z_dim = 32
    config.generator.style_dim = 8
    config.generator.style_features = (16, 32, 64)
    config.generator.mask_width = 16
    config.generator.modulation_hidden = 64
    config.generator.aain_form = "rays"
    config.generator.query_position = True
    # 2 also shows what stands within a token; for g2a it weighs four times as many pairs as 1.
    config.generator.fine_tokens = 2 if direction == "a2g" else 1
    config.generator.reader_width = 384
    config.generator.start_rank = 16  # the reader knows better what lies where

    config.discriminator.features = (24, 48, 96)
    config.discriminator.width = 128

    config.losses.reconstruction_weight = 25.0
    config.losses.low_reconstruction_weight = 2.0
    config.losses.retrieval_weight = 0.3  # at 1.0 G exploits E: R@1 passes the ceiling
    config.losses.retrieval_bank = 1024
    config.losses.token_weight = 3.0  # at 10.0 with rays G draws black and white specks on roads
    config.losses.guide_blur = True
    # The 2 codes of an update say too little of how codes are distributed, encoded or from F.
    config.losses.style_draws = 128
    config.losses.style_bank = 512
    config.losses.style_kept = True  # F cannot follow codes that move

    config.optimizer.embedder.learning_rate = 1e-3
    config.optimizer.embedder.warmup_steps = 20
    config.optimizer.generator.learning_rate = 1e-3
    config.optimizer.generator.b1 = 0.5
    config.optimizer.generator.warmup_steps = 20
    config.optimizer.generator.decay = "linear"
    config.optimizer.discriminator.learning_rate = 1e-3
    config.optimizer.discriminator.b1 = 0.5
    config.optimizer.discriminator.warmup_steps = 20
    config.optimizer.discriminator.decay = "linear"

    config.train.num_steps = (
        4000  # 250 of the embedder, 1,500 of the structure stage, 2,250 of G and D
    )
    config.train.batch_size = 64
    # For a given number of images, many small updates give far better pictures than few large ones.
    config.train.adversarial_batch_size = 2
    config.train.contrastive_warmup_steps = 250
    config.train.structure_steps = 1500
    config.train.contrastive_every = 25
    config.train.ema_halflife_generator = 250.0
    config.train.ema_halflife_guide = 250.0
    config.train.log_every = 25
    config.train.sample_every = 1000
    config.train.checkpoint_every = 1000
    config.eval.every = 4000  # once, at the end: a pass costs as much as 100 steps
    return config
