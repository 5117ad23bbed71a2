"""From a configuration to modules: the only place where the two meet."""

import dataclasses
import math
from typing import Any

import jax.numpy as jnp
from ml_collections import ConfigDict

from retroguide_jax.choices import check_choices
from retroguide_jax.errors import UserError
from retroguide_jax.models.discriminator import Discriminator
from retroguide_jax.models.embedder import Embedder
from retroguide_jax.models.generator import Generator

DIRECTIONS = {"a2g": ("aerial", "ground"), "g2a": ("ground", "aerial")}


@dataclasses.dataclass(frozen=True)
class Networks:
    """The modules of one run; generator and discriminator are None in mode `contrastive`."""

    embedder: Embedder
    generator: Generator | None
    discriminator: Discriminator | None
    source_view: str
    target_view: str
    sizes: dict[str, tuple[int, int]]  # view -> (height, width) in pixels


def make_networks(config: ConfigDict) -> Networks:
    """Builds the modules a config describes.

    Raises:
      UserError: a choice or a size that cannot be, naming the field.
    """
    check_choices(config)
    common = {"dtype": jnp.dtype(config.dtype), "remat": config.train.remat}
    source_view, target_view = DIRECTIONS[config.direction]
    sizes = {"aerial": tuple(config.data.aerial_size), "ground": tuple(config.data.ground_size)}
    embedder = _make_embedder(config, sizes, common)
    if config.mode == "contrastive":
        return Networks(embedder, None, None, source_view, target_view, sizes)
    circular = bool(config.data.panorama) and target_view == "ground"
    doublings = len(config.generator.structure_features) - 1 + len(config.generator.facade_features)
    start = _divide(f"data.{target_view}_size", sizes[target_view], 2**doublings)
    generator = Generator(start=start, circular=circular, **common, **_kwargs(config.generator))
    halvings = len(config.discriminator.features)
    _divide(f"data.{target_view}_size", sizes[target_view], 2**halvings)
    discriminator = Discriminator(circular=circular, **common, **_kwargs(config.discriminator))
    return Networks(embedder, generator, discriminator, source_view, target_view, sizes)


def embedder_variables(params: Any, stats: Any) -> dict[str, Any]:
    """Linen's variable collections for the embedder."""
    return {"params": params, "batch_stats": stats}


def _make_embedder(config: ConfigDict, sizes, common: dict) -> Embedder:
    fields = _kwargs(config.embedder)
    towers = {"saig": fields.pop("saig"), "convnext": fields.pop("convnext")}
    tower = towers[fields["backbone"]]
    stride = math.prod(tower["stem_strides"]) if fields["backbone"] == "saig" else 32
    grids = {view: _divide(f"data.{view}_size", size, stride) for view, size in sizes.items()}
    return Embedder(
        grids=grids, tower=tower, panorama=bool(config.data.panorama), **common, **fields
    )


def _kwargs(config: ConfigDict) -> dict:
    return dict(config.to_dict())


def _divide(field: str, size: tuple[int, int], factor: int) -> tuple[int, int]:
    """Divides both sides exactly, or names the nearest sizes that work."""
    if any(length % factor for length in size):
        nearest = tuple(max(factor, round(length / factor) * factor) for length in size)
        raise UserError(
            f"config.{field}={size}: both sides must be multiples of {factor} for these networks; "
            f"the nearest valid size is {nearest}"
        )
    return size[0] // factor, size[1] // factor
