"""The demo with one part removed or replaced; `benchmarks/ablate.py` runs and compares them.

retroguide train --config=ablations:no_style --workdir=runs/no_style
"""

from ml_collections import ConfigDict
from retroguide_jax.configs._changes import change_city

_NO_READER = {"generator.reader_width": 0}
_MASK = {"generator.aain_form": "mask", "generator.query_position": False}
_PLAIN = {"generator.aain_form": "plain", "generator.query_position": False}
_NO_STRUCTURE_STEPS = {"train.structure_steps": 0, "losses.style_kept": False}
CHANGES = {
    "full": {},
    "no_embedding": {"generator.use_embedding": False},
    # Without a style to explain the target, all rows should reconstruct it.
    "no_style": {"generator.use_style": False, "losses.style": "none"},
    "no_style_encoder": {"losses.style": "none"},
    "no_style_bank": {"losses.style_bank": 0},
    # S learns to the end, and F follows codes that move.
    "moving_styles": {"losses.style_kept": False},
    "few_style_draws": {"losses.style_draws": 0, "losses.style_bank": 0},
    "mode_seeking": {"losses.style": "mode_seeking"},
    # Attention to all tokens: the geometry of the views has to be learned.
    "tokens": _NO_READER | {"generator.aain_form": "tokens", "generator.fine_tokens": 0},
    # One finer map beside the tokens, not two: less of what stands where within a token.
    "coarser_tokens": {"generator.fine_tokens": 1},
    "no_query_position": {"generator.query_position": False},
    "mask_adain": _MASK,
    "channel_adain": _MASK | {"generator.aain_form": "channel"},
    "plain_adain": _PLAIN,
    "no_reader": _NO_READER,
    # The embedding alone guides: all that is drawn passes through one vector.
    "only_embedding": _NO_READER | _PLAIN | {"generator.fine_tokens": 0},
    "no_mask": {"generator.num_regions": 0},
    "four_regions": {"generator.num_regions": 4},
    "one_stage": {
        "generator.structure_features": (128, 96, 48, 24),
        "generator.facade_features": (),
    }
    | _NO_STRUCTURE_STEPS,
    "no_structure_steps": _NO_STRUCTURE_STEPS,
    "constant_start": {"generator.start_from_embedding": False},
    "no_retrieval_loss": {
        "losses.retrieval": "off",
        "losses.retrieval_bank": 0,
        "losses.token_weight": 0.0,
    },
    "no_token_loss": {"losses.token_weight": 0.0},
    "only_token_loss": {"losses.retrieval": "off", "losses.retrieval_bank": 0},
    "no_bank": {"losses.retrieval_bank": 0},
    "no_guide_blur": {"losses.guide_blur": False},
    "normalised_last": {"generator.normalise_last": True},
    # Both work at half size and cost less.
    "half_facade": {"generator.unfold": 2, "generator.facade_features": (40,)},
    "half_discriminator": {"discriminator.fold": 2, "discriminator.features": (48, 96)},
    "patch_discriminator": {"discriminator.patch": True},
    "concat_discriminator": {"discriminator.conditioning": "concat"},
}


def get_config(name: str = "full") -> ConfigDict:
    """`city` with one of `CHANGES`; ValueError if there is none of that name."""
    return change_city(CHANGES, name)
