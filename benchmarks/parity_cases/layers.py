"""Cases of single layers and blocks, at sizes that include every kind of border."""

from collections.abc import Iterator

import jax

from parity_cases.arrays import draw
from parity_cases.case import Case, pair, twin
from parity_cases.noise import draw_map, draw_maps
from retroguide_jax.models import discriminator, embedder, generator, layers, resampling
from retroguide_jax.models.attentional_adain import AttentionalAdaIN
from retroguide_jax.models.region_modulation import RegionMask, RegionModulation

KEYS = jax.random.split(jax.random.key(1), 2)
CHANNELS, WIDTH = 8, 6
MAP = (2, 4, 8, CHANNELS)
CONDITION = {
    "embedding": draw("embedding", (2, WIDTH)),
    "tokens": draw("tokens", (2, 4, 7)),
    "style": draw("style", (2, WIDTH)),
}


def _call(module, *args) -> dict:
    return {"out": module(*args)}


def make_cases() -> Iterator[Case]:
    """Each layer in each of its forms."""
    yield from _make_convolutions()
    yield from _make_functions()
    yield from _make_modulations()
    yield from _make_embedder_parts()
    yield from _make_generator_parts()
    yield pair(
        "residual down",
        {"x": draw("x", MAP)},
        _call,
        _call,
        discriminator.ResidualDown(5, True),
        lambda: twin.discriminator.ResidualDown(CHANNELS, 5, True),
    )


def _make_convolutions() -> Iterator[Case]:
    forms = {
        "3 x 3": {},
        "3 x 3, circular": {"circular": True},
        "3 x 3, stride 2": {"stride": 2},
        "3 x 3, stride 2, circular": {"stride": 2, "circular": True},
        "2 x 2, stride 2": {"kernel_size": 2, "stride": 2},
        "1 x 1, no bias": {"kernel_size": 1, "bias": False},
    }
    for name, fields in forms.items():
        renamed = {"stride": "strides", "bias": "use_bias"}
        ours = {renamed.get(field, field): value for field, value in fields.items()}
        yield pair(
            f"convolution, {name}",
            {"x": draw("x", MAP)},
            _call,
            _call,
            layers.Conv(5, **ours),
            lambda fields=fields: twin.layers.Conv(CHANNELS, 5, **fields),
        )


def _make_functions() -> Iterator[Case]:
    functions = {
        "upsample": (resampling.upsample,),
        "upsample, circular": (resampling.upsample, True),
        "downsample": (resampling.downsample,),
        "instance norm": (layers.instance_norm,),
    }
    for name, (function, *args) in functions.items():
        yield pair(
            name,
            {"x": draw("x", MAP)},
            lambda x, function=function, args=args: {"out": function(x, *args)},
            lambda x, function=function, args=args: {
                "out": getattr(twin.layers, function.__name__)(x, *args)
            },
        )


def _make_modulations() -> Iterator[Case]:
    def add_noise(module, h):
        noise = draw_map(KEYS, tuple(h.shape[2:]))
        return {"out": module(h, h.new_tensor(noise))}

    yield pair(
        "noise injection",
        {"h": draw("h", MAP)},
        lambda module, h: {"out": module(h, KEYS)},
        add_noise,
        layers.NoiseInjection(),
        lambda: twin.layers.NoiseInjection(CHANNELS),
    )
    for form in ("mask", "channel", "tokens", "rays", "plain"):
        yield pair(
            f"attentional AdaIN, {form}",
            {"h": draw("h", MAP)} | CONDITION,
            _call,
            _call,
            AttentionalAdaIN(form, False, True, (2, 2)),
            lambda form=form: twin.layers.AttentionalAdaIN(
                form, CHANNELS, WIDTH, 7, False, True, (2, 2)
            ),
        )
    for regions in (1, 3):
        yield pair(
            f"region mask, {regions}",
            {"h": draw("h", MAP)},
            _call,
            _call,
            RegionMask(regions, 6, True),
            lambda regions=regions: twin.layers.RegionMask(CHANNELS, regions, 6, True),
        )
    for regions in (1, 3):
        yield pair(
            f"region modulation, {regions}",
            {
                "h": draw("h", MAP),
                "mask": draw("mask", (*MAP[:3], regions)),
                "condition": draw("condition", (2, 2 * WIDTH)),
            },
            _call,
            _call,
            RegionModulation(6),
            lambda regions=regions: twin.layers.RegionModulation(CHANNELS, regions, WIDTH, 6),
        )


def _make_embedder_parts() -> Iterator[Case]:
    images = {"x": draw("x", (3, 8, 16, 3))}
    for norm, train in (("group", True), ("batch", True), ("batch", False)):
        arguments = ((8, 16), (2, 1), 6, norm, True)
        mode = "" if norm == "group" else ", training" if train else ", inference"
        yield pair(
            f"stem, {norm} norm{mode}",
            images,
            lambda module, x, train=train: {"out": module(x, train)[0]},
            lambda module, x: {"out": module(x)[0]},
            embedder.Stem(*arguments),
            lambda arguments=arguments: twin.embedder.Stem(*arguments),
            train=train,
        )
    tokens = {"x": draw("tokens of 8", (2, 10, 8))}
    yield pair(
        "self-attention block",
        tokens,
        _call,
        _call,
        embedder.SelfAttentionBlock(2),
        lambda: twin.embedder.SelfAttentionBlock(8, 2),
    )
    yield pair(
        "SMD head",
        tokens,
        _call,
        _call,
        embedder.SmdHead(3),
        lambda: twin.embedder.SmdHead(10, 3),
    )


def _make_generator_parts() -> Iterator[Case]:
    yield pair(
        "mapping network",
        {"z": draw("z", (3, 5))},
        _call,
        _call,
        generator.MappingNetwork(4, 6, 2),
        lambda: twin.generator.MappingNetwork(5, 4, 6, 2),
    )
    yield pair(
        "style encoder",
        {"images": draw("images", (2, 8, 16, 3))},
        _call,
        _call,
        generator.StyleEncoder(4, (5, 6)),
        lambda: twin.generator.StyleEncoder(8, 4, (5, 6)),
    )

    def draw_with_noise(module, h, *condition):
        size = tuple((2 if module.up else 1) * length for length in h.shape[2:])
        maps = [h.new_tensor(noise) for noise in draw_maps(KEYS, [size, size])]
        return {"out": module(h, *condition, maps)}

    for up, features in ((False, CHANNELS), (True, 5)):
        yield pair(
            f"structure block, {'doubled' if up else 'same size'}",
            {"h": draw("h", MAP)} | CONDITION,
            lambda module, *args: {"out": module(*args, KEYS)},
            draw_with_noise,
            generator.StructureBlock(features, up, "mask", True),
            lambda up=up, features=features: twin.generator.StructureBlock(
                CHANNELS, features, up, "mask", WIDTH, 7, True
            ),
        )
    yield pair(
        "facade block",
        {"h": draw("h", MAP), "condition": draw("condition", (2, 2 * WIDTH))},
        lambda module, *args: {"out": module(*args, KEYS)},
        draw_with_noise,
        generator.FacadeBlock(5, True, 1, 6, 6, True),
        lambda: twin.generator.FacadeBlock(CHANNELS, 5, True, 1, 6, 6, WIDTH, True),
    )
