"""Shared by the full-size configs; and by those of photographed data sets, with a smoke variant."""

from ml_collections import ConfigDict
from retroguide_jax.configs import city_smoke, default


def get_full_size(direction: str, published: bool = False) -> ConfigDict:
    """`default` in bfloat16, in two stages, with values found by tuning `city`.

    Nobody has run it to its end: see docs/fidelity.md.

    Args:
      direction: a2g or g2a.
      published: the embedder learns at SAIG's own rate from the first step.
    """
    config = default.get_config(direction)
    config.dtype = "bfloat16"
    # Two stages in one run, as reported of the paper: G and D depend on the guide's embedding
    # space, so the embedder first learns to the end of its schedule, and then stays fixed.
    config.train.contrastive_warmup_steps = 20_000
    config.train.contrastive_every = 0
    if not published:
        # At 1e-4 a small SAIG stays at chance for 500 steps (docs/train.md).
        config.optimizer.embedder.learning_rate = 5e-4
        config.optimizer.embedder.warmup_steps = 100
    for name in ("generator", "discriminator"):
        config.optimizer[name].b1 = 0.5
        config.optimizer[name].decay = "linear"
    config.losses.reconstruction_weight = 25.0
    config.losses.low_reconstruction_weight = 2.0
    config.losses.retrieval_weight = 0.3
    config.losses.augment = 0.5
    config.discriminator.init_scale = 1.923
    # StyleGAN2-ADA's weight by resolution and batch (Karras et al., 2020).
    height, width = config.data.ground_size if direction == "a2g" else config.data.aerial_size
    batch = config.train.adversarial_batch_size
    config.losses.penalty_weight = round(0.0002 * height * width / batch, 3)
    return config


def get_config(name: str, variant: str, argument: str) -> ConfigDict:
    """256 x 256 aerials and 128 x 512 panoramas, SAIG-S and the full generator in bfloat16.

    Args:
      name: the data set.
      variant: its config_name.
      argument: "a2g", "g2a", "smoke", "published", or a direction and one of the last two with a
        comma between.

    Raises:
      ValueError: any other argument.
    """
    words = [word.strip() for word in argument.split(",") if word.strip()]
    directions = [word for word in words if word in ("a2g", "g2a")] or ["a2g"]
    if len(directions) > 1 or not set(words) <= {"a2g", "g2a", "smoke", "published"}:
        raise ValueError(
            f"{argument!r}: say a2g or g2a, and smoke or published, with a comma between"
        )
    if "smoke" in words:
        # Tiny networks and images: the code paths in seconds, for tests and for a new folder.
        config = city_smoke.get_config(directions[0])
        config.data.train_split, config.data.val_split = "train[8:]", "train[:8]"
    else:
        config = get_full_size(directions[0], "published" in words)
        config.data.train_split, config.data.val_split = "train[512:]", "train[:512]"
    config.data.name, config.data.config_name = name, variant
    return config
