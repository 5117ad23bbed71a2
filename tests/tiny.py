"""The smallest networks with every component, for tests that compile training steps."""

import numpy as np

from retroguide_jax.config import load_config

_FIELDS = {
    "data.aerial_size": (16, 16),
    "data.ground_size": (8, 32),
    "embedder.head_outputs": 2,
    "embedder.saig.width": 8,
    "embedder.saig.depth": 1,
    "embedder.saig.num_heads": 2,
    "embedder.saig.stem_features": (8, 8),
    "embedder.saig.stem_strides": (2, 2),
    "embedder.convnext.widths": (4, 4, 4, 8),
    "embedder.convnext.depths": (1, 1, 1, 1),
    "generator.structure_features": (8,),
    "generator.facade_features": (8,),
    "generator.width": 8,
    "generator.z_dim": 4,
    "generator.style_dim": 4,
    "generator.mapping_depth": 1,
    "generator.style_features": (8,),
    "generator.mask_width": 4,
    "generator.aain_form": "mask",
    "generator.query_position": False,
    "generator.fine_tokens": False,
    "generator.reader_width": 0,
    "generator.start_rank": 0,
    "generator.modulation_hidden": 8,
    "discriminator.features": (8,),
    "discriminator.width": 8,
    "losses.penalty_every": 2,
    "losses.retrieval_bank": 0,
    "losses.style_bank": 0,
    "losses.style_kept": False,
    "losses.token_weight": 0.0,
    "losses.guide_blur": False,
    "optimizer.embedder.warmup_steps": 0,
    "optimizer.generator.warmup_steps": 0,
    "optimizer.discriminator.warmup_steps": 0,
    "train.batch_size": 16,
    "train.adversarial_batch_size": 8,
    "train.contrastive_warmup_steps": 0,
    "train.structure_steps": 0,
    "train.num_steps": 1650,
    "train.contrastive_every": 2,
}


def make_tiny_config(direction="a2g", **fields):
    """`city` made tiny; `fields` are dotted names: make_tiny_config(**{"train.batch_size": 8})."""
    config = load_config(f"city:{direction}", [])
    with config.unlocked():
        config.update_from_flattened_dict(_FIELDS | fields)
    return config


def make_batch(config, seed=0):
    """A batch of coloured noise in [-1, 1], in the format of the data pipeline."""
    rng = np.random.default_rng(seed)
    size = config.train.batch_size
    shapes = {"aerial": config.data.aerial_size, "ground": config.data.ground_size}
    return {
        view: rng.uniform(-1, 1, (size, *shape, 3)).astype(np.float32)
        for view, shape in shapes.items()
    }
