"""The fields of a config that choose between several parts, and their valid values.

Alternatives are listed only here: `configs/default.py` says what a field is for, and modules that
get an unknown value call `check_choice`.
"""

from operator import attrgetter

from ml_collections import ConfigDict

from retroguide_jax.errors import UserError
from retroguide_jax.text import find_nearest

CHOICES = {
    "direction": ("a2g", "g2a"),  # aerial to ground panorama, or the reverse
    # Train all networks; G and D, with the embedder of `frozen_embedder`; the embedder alone.
    "mode": ("joint", "frozen", "contrastive"),
    "dtype": ("float32", "bfloat16"),
    "data.crop_outside": ("drop", "pad"),  # what happens to a crop that leaves its tile
    "embedder.backbone": ("saig", "convnext"),
    "embedder.head": ("smd", "gap"),
    "embedder.saig.stem_norm": ("batch", "group"),
    # For baselines: `encoder` is trained with G, without a contrastive loss; `pixels` is a U-Net.
    "generator.guidance": ("embedder", "encoder", "pixels"),
    "generator.aain_form": ("mask", "tokens", "rays", "channel", "plain"),
    # `concat` is one-way, as in DF-GAN; the last three are for baselines, `pixels` as in pix2pix.
    "discriminator.conditioning": ("projection", "concat", "encoder", "pixels", "none"),
    "losses.contrastive": ("info_nce", "soft_margin_triplet"),  # the latter with alpha 10
    "losses.adversarial": ("logistic", "hinge"),
    "losses.penalty": ("r1", "matching_aware"),
    "losses.retrieval": ("info_nce", "cosine", "off"),
    # Styles encoded from the target and matched by F(z); MSGAN's ratio; no term makes z matter.
    "losses.style": ("encoder", "mode_seeking", "none"),
    "train.remat": ("none", "elementwise", "blocks"),
    # XLA's optimisation level; O1 compiles in half the time on TPUs (docs/plan.md).
    "train.compiler_level": ("default", "O0", "O1", "O2", "O3"),
    # G is updated through D after its update, or through D before it.
    "train.update_order": ("alternating", "simultaneous"),
    "optimizer.embedder.decay": ("none", "linear", "cosine"),
    "optimizer.generator.decay": ("none", "linear", "cosine"),
    "optimizer.discriminator.decay": ("none", "linear", "cosine"),
}


def check_choices(config: ConfigDict) -> None:
    """Checks every field of `CHOICES`.

    Raises:
      UserError: a value that its field does not allow, naming the field and the nearest value.
    """
    for field in CHOICES:
        check_choice(field, attrgetter(field)(config))


def check_choice(field: str, value: str) -> None:
    """Checks one value of a field of `CHOICES`; errors as of `check_choices`."""
    known = CHOICES[field]
    if value not in known:
        nearest = find_nearest(str(value), known)
        hint = f"; did you mean {nearest}?" if nearest else ""
        raise UserError(f"config.{field}={value!r}: choose one of {', '.join(known)}{hint}")
