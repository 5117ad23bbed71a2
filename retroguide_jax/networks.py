"""Builds modules from a config, which modules themselves never read."""

import dataclasses
import math
from operator import attrgetter
from typing import Any, Protocol

import jax.numpy as jnp
from ml_collections import ConfigDict

from retroguide_jax.choices import check_choices
from retroguide_jax.errors import UserError
from retroguide_jax.models.convnext import find_stride
from retroguide_jax.models.discriminator import Discriminator
from retroguide_jax.models.embedder import Embedder, SourceEncoder
from retroguide_jax.models.generator import Generator
from retroguide_jax.models.unet import UNet

DIRECTIONS = {"a2g": ("aerial", "ground"), "g2a": ("ground", "aerial")}


class Network(Protocol):
    """A Linen module; what its functions return depends on `method` and `mutable`."""

    def init(self, rngs: Any, *args: Any, **kwargs: Any) -> Any:
        """Initial variables."""
        ...

    def apply(self, variables: Any, *args: Any, **kwargs: Any) -> Any:
        """The result of `method`, by default of `__call__`."""
        ...


class GeneratorNetwork(Network, Protocol):
    """Draws target images: `map_noise`, `encode_style`, `synthesize`, as `generator.Generator`."""

    @property
    def z_dim(self) -> int:
        """Length of the noise vector."""
        ...

    @property
    def circular(self) -> bool:
        """Whether its images wrap around at the left and right edges."""
        ...


class DiscriminatorNetwork(Network, Protocol):
    """Scores images: `extract`, `condition`, `score`, as `discriminator.Discriminator`."""

    @property
    def has_late_condition(self) -> bool:
        """Whether the condition joins after `extract`."""
        ...


@dataclasses.dataclass(frozen=True)
class Networks:
    """The modules of one run.

    In mode `contrastive` generator and discriminator are None. Their types do not say so, because
    code that trains G and D is not reached in that mode.
    """

    embedder: Network
    generator: GeneratorNetwork
    discriminator: DiscriminatorNetwork
    source_view: str
    target_view: str
    sizes: dict[str, tuple[int, int]]  # view -> (height, width) in pixels


def make_networks(config: ConfigDict) -> Networks:
    """Builds the modules a config describes.

    Raises:
      UserError: an invalid choice or size, naming the field.
    """
    check_choices(config)
    common = {"dtype": jnp.dtype(config.dtype), "remat": config.train.remat}
    source_view, target_view = DIRECTIONS[config.direction]
    sizes = {"aerial": tuple(config.data.aerial_size), "ground": tuple(config.data.ground_size)}
    embedder = _make_embedder(config, sizes, common)
    if config.mode == "contrastive":
        return Networks(embedder, None, None, source_view, target_view, sizes)  # pyright: ignore[reportArgumentType]
    common["circular"] = bool(config.data.panorama) and target_view == "ground"
    for field in ("generator.unfold", "discriminator.fold"):
        if attrgetter(field)(config) not in (1, 2):
            raise UserError(
                f"config.{field}={attrgetter(field)(config)}: 1 (full size) or 2 (half)"
            )
    _check_structure_steps(config)
    finer = 2**config.generator.fine_tokens
    grid = tuple(finer * length for length in embedder.grids[source_view])
    generator = _make_generator(config, sizes, grid, common)
    shrinks = config.discriminator.fold * 2 ** len(config.discriminator.features)
    _divide(f"data.{target_view}_size", sizes[target_view], shrinks)
    fields = _kwargs(config.discriminator)
    if fields["conditioning"] == "encoder":
        fields["encoder"] = _make_encoder(config, sizes)
    discriminator = Discriminator(polar=config.generator.polar_source, **common, **fields)
    return Networks(embedder, generator, discriminator, source_view, target_view, sizes)


def embedder_variables(params: Any, stats: Any) -> dict[str, Any]:
    """Linen's variable collections for the embedder."""
    return {"params": params, "batch_stats": stats}


def _make_embedder(config: ConfigDict, sizes, common: dict) -> Embedder:
    fields = _kwargs(config.embedder) | {"fine_tokens": config.generator.fine_tokens}
    towers = {"saig": fields.pop("saig"), "convnext": fields.pop("convnext")}
    tower = towers[fields["backbone"]]
    if fields["backbone"] == "saig":
        stride, strides = math.prod(tower["stem_strides"]), tower["stem_strides"]
    else:
        stride, strides = find_stride(tower["widths"]), [4] + [2] * (len(tower["widths"]) - 1)
    levels = fields["fine_tokens"]
    if levels < 0 or [s for s in strides if s > 1][::-1][:levels] != [2] * levels:
        raise UserError(
            f"config.generator.fine_tokens={levels}: it counts halvings, the embedder's strides "
            f"are {tuple(strides)}, and as many of the last above 1 must be 2; set it to 0, or "
            "change the strides"
        )
    grids = {view: _divide(f"data.{view}_size", size, stride) for view, size in sizes.items()}
    return Embedder(
        grids=grids, tower=tower, panorama=bool(config.data.panorama), **common, **fields
    )


def _make_generator(config: ConfigDict, sizes, token_grid, common: dict) -> Generator | UNet:
    fields = _kwargs(config.generator)
    del fields["fine_tokens"]  # the embedder makes them
    guidance, features = fields.pop("guidance"), fields.pop("unet_features")
    polar = fields.pop("polar_source")
    width = fields["reader_width"]
    if width < 0 or width % 16:
        raise UserError(f"config.generator.reader_width={width}: a multiple of 16; 0 is no reader")
    if polar and config.direction != "a2g":
        raise UserError(
            "config.generator.polar_source=True: polar coordinates turn an aerial image into a "
            "panorama; set it to False for direction g2a"
        )
    for field, used, other in (
        ("polar_source=True", polar, "False"),
        (f"reader_width={width}", width, "0"),
        ("aain_form='rays'", fields["aain_form"] == "rays", "'tokens'"),
    ):
        if used and not config.data.panorama:
            raise UserError(
                f"config.generator.{field}: only the columns of a panorama have known directions; "
                f"set it to {other}, or config.data.panorama to True"
            )
        if used and len(set(sizes["aerial"])) > 1:
            raise UserError(
                f"config.data.aerial_size={sizes['aerial']}: config.generator.{field} needs a "
                "square, with the camera in its middle"
            )
    target_view = DIRECTIONS[config.direction][1]
    name, size = f"data.{target_view}_size", sizes[target_view]
    if guidance == "pixels":
        _divide(name, size, 2 ** len(features))
        codes = {field: fields[field] for field in ("z_dim", "style_dim")}
        kept = {field: common[field] for field in ("circular", "dtype")}
        return UNet(size=size, features=features, polar=polar, **codes, **kept)
    # The first block keeps the size; with unfold, the RGB head doubles it, not the last block.
    num_blocks = len(fields["structure_features"]) + len(fields["facade_features"])
    doublings = max(0, num_blocks - fields["unfold"])
    encoder = _make_encoder(config, sizes) if guidance == "encoder" else None
    start = _divide(name, size, fields["unfold"] * 2**doublings)
    return Generator(start=start, encoder=encoder, token_grid=token_grid, **common, **fields)


def _check_structure_steps(config: ConfigDict) -> None:
    two_stages = config.generator.guidance != "pixels" and config.generator.facade_features
    if config.train.structure_steps and not two_stages:
        raise UserError(
            f"config.train.structure_steps={config.train.structure_steps}: this generator has no "
            "structure stage to train first; set it to 0, or set config.generator.facade_features"
        )
    kept = config.losses.style_kept and config.losses.style == "encoder"
    if kept and not config.train.structure_steps:
        raise UserError(
            "config.losses.style_kept=True: the style encoder learns in the structure stage alone, "
            "and config.train.structure_steps=0 leaves that out; set one of the two"
        )


def _make_encoder(config: ConfigDict, sizes) -> SourceEncoder:
    """An encoder with the embedder's architecture, trained with G or D."""
    config = config.copy_and_resolve_references().unlock()
    # Batch statistics would be state besides the parameters of G and D.
    config.embedder.saig.stem_norm = "group"
    config.embedder.learned_temperature = False
    embedder = _make_embedder(config, sizes, {"dtype": jnp.dtype(config.dtype)})
    return SourceEncoder(embedder, DIRECTIONS[config.direction][0])


def _kwargs(config: ConfigDict) -> dict:
    return dict(config.to_dict())


def _divide(field: str, size: tuple[int, int], factor: int) -> tuple[int, int]:
    """Divides both sides exactly, or raises an error that names the nearest valid size."""
    if any(length % factor for length in size):
        nearest = tuple(max(factor, round(length / factor) * factor) for length in size)
        raise UserError(
            f"config.{field}={size}: both sides must be multiples of {factor} for these networks; "
            f"the nearest valid size is {nearest}"
        )
    return size[0] // factor, size[1] // factor
