"""The fields of a config that name one of several parts, and what each may be."""

from operator import attrgetter

from ml_collections import ConfigDict

from retroguide_jax.errors import UserError
from retroguide_jax.text import find_nearest

CHOICES = {
    "direction": ("a2g", "g2a"),
    "mode": ("joint", "frozen", "contrastive"),
    "dtype": ("float32", "bfloat16"),
    "data.crop_outside": ("drop", "pad"),
    "embedder.backbone": ("saig", "convnext"),
    "embedder.head": ("smd", "gap"),
    "embedder.saig.stem_norm": ("batch", "group"),
    "generator.guidance": ("embedder", "encoder", "pixels"),
    "generator.aain_form": ("mask", "tokens", "channel", "plain"),
    "discriminator.conditioning": ("projection", "concat", "encoder", "pixels", "none"),
    "losses.contrastive": ("info_nce", "soft_margin_triplet"),
    "losses.adversarial": ("logistic", "hinge"),
    "losses.penalty": ("r1", "matching_aware"),
    "losses.retrieval": ("info_nce", "cosine", "off"),
    "losses.style": ("encoder", "mode_seeking", "none"),
    "train.remat": ("none", "elementwise", "blocks"),
    "train.update_order": ("alternating", "simultaneous"),
    "optimizer.embedder.decay": ("none", "linear", "cosine"),
    "optimizer.generator.decay": ("none", "linear", "cosine"),
    "optimizer.discriminator.decay": ("none", "linear", "cosine"),
}


def check_choices(config: ConfigDict) -> None:
    """Checks every field of `CHOICES`.

    Raises:
      UserError: a value that is none of its field's, naming the field and the nearest value.
    """
    for field, known in CHOICES.items():
        value = attrgetter(field)(config)
        if value not in known:
            nearest = find_nearest(str(value), known)
            hint = f"; did you mean {nearest}?" if nearest else ""
            raise UserError(f"config.{field}={value!r}: choose one of {', '.join(known)}{hint}")
