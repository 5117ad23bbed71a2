"""Baselines, with the same data, budget and evaluation as the demo.

    retroguide train --config=baselines:pix2pix --workdir=runs/pix2pix

A fourth baseline, the nearest training panorama, has nothing to train: `benchmarks/ablate.py`.
"""

from ml_collections import ConfigDict
from retroguide_jax.configs._changes import change_city

_PIXELS = {
    "train.structure_steps": 0,  # a U-Net has no stages
    "generator.guidance": "pixels",
    "discriminator.conditioning": "pixels",
    "discriminator.patch": True,
    "losses.style": "none",
}
CHANGES = {
    # Isola et al., 2017: a U-Net on the resized source; D sees both images, also patch by patch.
    "pix2pix": _PIXELS,
    # The same on the source in polar coordinates, in which it resembles the panorama.
    "pix2pix_polar": _PIXELS | {"generator.polar_source": True},
    # The same generator, with the embedder's architecture trained by the losses of G and D alone.
    "generic_encoder": {"generator.guidance": "encoder", "discriminator.conditioning": "encoder"},
    "unconditional": {
        "generator.use_embedding": False,
        "generator.start_from_embedding": False,
        "discriminator.conditioning": "none",
    },
}


def get_config(name: str = "pix2pix") -> ConfigDict:
    """`city` with one of `CHANGES`; ValueError if there is none of that name.

    In a baseline the retrieval embedder does not guide G; it serves the evaluation only.
    """
    config = change_city(CHANGES, name)
    config.losses.retrieval = "off"
    config.losses.retrieval_bank = 0
    config.losses.token_weight = 0.0
    return config
