"""Shared by the full-size configs; and by those of photographed data sets, with a smoke variant."""

from ml_collections import ConfigDict
from retroguide_jax.configs import city_smoke, default
from retroguide_jax.configs._changes import forget_geometry


def get_full_size(direction: str, published: bool = False) -> ConfigDict:
    """`default` in bfloat16, in two stages, with values found by tuning `city`.

    Nobody has run it to its end: see docs/fidelity.md, also for what of `city` it leaves out.

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
    config.train.structure_steps = 2_000  # of G: layout is learned first, at half the cost
    if not published:
        # At 1e-4 a small SAIG stays at chance for 500 steps (docs/train.md).
        config.optimizer.embedder.learning_rate = 5e-4
        config.optimizer.embedder.warmup_steps = 100
    for name in ("generator", "discriminator"):
        config.optimizer[name].b1 = 0.5
        config.optimizer[name].decay = "linear"
    config.generator.aain_form = "tokens"
    config.generator.query_position = True
    config.losses.reconstruction_weight = 25.0
    config.losses.low_reconstruction_weight = 2.0
    config.losses.retrieval_weight = 0.3
    config.losses.token_weight = 10.0
    config.losses.guide_blur = True
    config.losses.augment = 0.5
    config.discriminator.init_scale = 1.923
    # StyleGAN2-ADA's weight by resolution and batch (Karras et al., 2020).
    height, width = config.data.ground_size if direction == "a2g" else config.data.aerial_size
    batch = config.train.adversarial_batch_size
    config.losses.penalty_weight = round(0.0002 * height * width / batch, 3)
    return config


def fit_to_chips(config: ConfigDict) -> None:
    """Replaces, in place, maps of few channels at full size, which leave most of a chip idle.

    Other networks of much the same size; docs/plan.md compares their speed. Never trained.
    """
    config.embedder.saig.num_heads = 3  # heads of 128
    config.generator.facade_features = (128, 128)
    config.generator.unfold = 2
    config.generator.mask_width = 64
    config.generator.start_rank = 8
    config.discriminator.features = (128, 256, 512, 512)
    config.discriminator.fold = 2


def get_config(name: str, variant: str, argument: str) -> ConfigDict:
    """256 x 256 aerials and 128 x 512 panoramas, SAIG-S and the full generator in bfloat16.

    Args:
      name: the data set.
      variant: its config_name.
      argument: words with commas between: a2g or g2a; smoke, or any of published (SAIG's own
        learning rate) and chips (`fit_to_chips`).

    Raises:
      ValueError: any other argument.
    """
    words = {word.strip() for word in argument.split(",") if word.strip()}
    directions = sorted(words & {"a2g", "g2a"}) or ["a2g"]
    if len(directions) > 1 or not words <= {"a2g", "g2a", "smoke", "published", "chips"}:
        raise ValueError(
            f"{argument!r}: say a2g or g2a, and smoke, or published and chips, with a comma between"
        )
    if "smoke" in words:
        # Tiny networks and images: the code paths in seconds, for tests and for a new folder.
        config = city_smoke.get_config(directions[0])
        forget_geometry(config)
        config.data.train_split, config.data.val_split = "train[8:]", "train[:8]"
    else:
        config = get_full_size(directions[0], "published" in words)
        config.data.train_split, config.data.val_split = "train[512:]", "train[:512]"
        if "chips" in words:
            fit_to_chips(config)
    config.data.name, config.data.config_name = name, variant
    return config
