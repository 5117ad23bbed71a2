"""Builds the modules that a config describes."""

import dataclasses
import math

from ml_collections import ConfigDict

from torch_reference.discriminator import Discriminator
from torch_reference.embedder import Embedder
from torch_reference.generator import Generator

DIRECTIONS = {"a2g": ("aerial", "ground"), "g2a": ("ground", "aerial")}


@dataclasses.dataclass(frozen=True)
class Networks:
    """The modules of one run; generator and discriminator are None in mode `contrastive`."""

    embedder: Embedder
    generator: Generator | None
    discriminator: Discriminator | None
    source_view: str
    target_view: str


def build_networks(config: ConfigDict) -> Networks:
    """Builds the modules that `retroguide_jax.networks.make_networks` builds, with its names.

    Raises:
      ValueError: the config asks for the backbone `convnext` or a baseline's guidance.
    """
    source_view, target_view = DIRECTIONS[config.direction]
    sizes = {"aerial": tuple(config.data.aerial_size), "ground": tuple(config.data.ground_size)}
    fields = dict(config.embedder.to_dict())
    tower = fields.pop("saig")
    del fields["convnext"]
    if fields.pop("backbone") != "saig":
        raise ValueError("config.embedder.backbone: the PyTorch twin has only saig")
    stride = math.prod(tower["stem_strides"])
    grids = {view: (size[0] // stride, size[1] // stride) for view, size in sizes.items()}
    panorama = bool(config.data.panorama)
    fine_tokens = int(config.generator.fine_tokens)
    embedder = Embedder(
        grids=grids, tower=tower, panorama=panorama, fine_tokens=fine_tokens, **fields
    )
    if config.mode == "contrastive":
        return Networks(embedder, None, None, source_view, target_view)
    width = tower["width"]
    common = {
        "embedding_dim": width * (fields["head_outputs"] if fields["head"] == "smd" else 1),
        "circular": panorama and target_view == "ground",
    }
    height, columns = sizes[target_view]
    blocks = len(config.generator.structure_features) + len(config.generator.facade_features)
    guided = dict(config.generator.to_dict())
    del guided["unet_features"], guided["polar_source"]  # both are for guidance by pixels
    del guided["fine_tokens"]
    halvings = [i for i, stride in enumerate(tower["stem_strides"]) if stride > 1][::-1]
    widths = (3, *tower["stem_features"])
    fine_width = sum(widths[halving] for halving in halvings[:fine_tokens])
    if guided.pop("guidance") != "embedder":
        raise ValueError("config.generator.guidance: the PyTorch twin has only embedder")
    # Blocks and RGB head together double the start map one time less than there are blocks.
    generator = Generator(
        start=(height >> blocks - 1, columns >> blocks - 1),
        token_width=width + fine_width,
        token_grid=tuple(2**fine_tokens * length for length in grids[source_view]),
        height=height,
        **common,
        **guided,
    )
    judging = dict(config.discriminator.to_dict())
    del judging["init_scale"]  # parity loads our initial weights; speed does not depend on them
    discriminator = Discriminator(size=(height, columns), **common, **judging)
    return Networks(embedder, generator, discriminator, source_view, target_view)
