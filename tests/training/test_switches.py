"""Every mode and switch runs; several together, because a step takes seconds to compile."""

import jax
import numpy as np
import pytest
from tiny import make_batch, make_tiny_config

from retroguide_jax.errors import UserError
from retroguide_jax.networks import make_networks
from retroguide_jax.parallel.mesh import make_mesh, place_batch
from retroguide_jax.state import abstract_state, create_state
from retroguide_jax.training.steps import make_train_step

BUNDLES = {
    "no_embedding": {
        "generator.use_embedding": False,
        "losses.adversarial": "hinge",
        "losses.penalty": "matching_aware",
        "losses.style": "none",
        "losses.retrieval": "cosine",
        "generator.reader_width": 16,
        "generator.start_rank": 2,
        "discriminator.conditioning": "concat",
        "train.update_order": "simultaneous",
        "mode": "frozen",
    },
    "one_stage": {
        "generator.facade_features": (),
        "generator.aain_form": "plain",
        "generator.use_style": False,
        "generator.start_from_embedding": False,
        "generator.guidance": "encoder",
        "discriminator.conditioning": "encoder",
        "losses.retrieval": "off",
        "data.ground_size": (4, 16),
    },
    "g2a": {
        "direction": "g2a",
        "generator.aain_form": "tokens",
        "generator.query_position": True,
        "generator.fine_tokens": 1,
        "generator.normalise_last": True,
        "generator.unfold": 2,
        "discriminator.fold": 2,
        "losses.token_weight": 1.0,
        "losses.retrieval_bank": 16,
        "generator.num_regions": 3,
        "discriminator.patch": True,
        "losses.augment": 0.5,
        "train.degrade": True,
        "embedder.learned_temperature": True,
        "dtype": "bfloat16",
    },
    "no_mask": {
        "generator.aain_form": "channel",
        "generator.num_regions": 0,
        "embedder.shared": True,
        "embedder.head": "gap",
        "losses.contrastive": "soft_margin_triplet",
        "losses.style": "mode_seeking",
        "data.panorama": False,
    },
    "pixels": {
        "mode": "frozen",
        "generator.guidance": "pixels",
        "generator.polar_source": True,
        "generator.unet_features": (4, 8),
        "discriminator.conditioning": "pixels",
        "losses.style": "none",
    },
    "convnext": {
        "mode": "contrastive",
        "embedder.backbone": "convnext",
        "embedder.convnext.widths": (4, 8),
        "embedder.convnext.depths": (1, 1),
    },
}
# Metrics of other runs that a bundle must lack.
ABSENT = {
    "no_embedding": ("contrastive/loss", "g/style_matching"),
    "one_stage": ("g/l1_low", "g/retrieval"),
    "g2a": (),
    "no_mask": ("g/style_matching",),
    "pixels": ("g/l1_low", "d/mismatched", "g/style_matching"),
    "convnext": ("g/l1", "d/loss"),
}


# The parts of no_mask are compared with PyTorch's in tests/torch_parity. The gradient of convnext's
# windows, tap by tap, compiles long, and tests/models/test_depthwise.py has it.
SLOW = ("convnext", "no_mask")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in BUNDLES],
)
def test_one_step(name):
    config = make_tiny_config(**BUNDLES[name])
    networks, mesh = make_networks(config), make_mesh({"data": 1, "fsdp": 1}, jax.devices()[:1])
    abstract = abstract_state(config, networks, mesh)
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(abstract)} == {"float32", "int32"}
    shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    state = create_state(config, networks, mesh)
    before = jax.tree.map(np.array, state)
    step_fn = make_train_step(config, networks, mesh, shardings)
    for seed in range(2):
        state, metrics = step_fn(state, place_batch(make_batch(config, seed), mesh))
        if seed == 0:
            first = jax.device_get(metrics)
    after = jax.tree.map(np.array, state)
    assert all(np.isfinite(value) for value in first.values()), first
    assert not set(ABSENT[name]) & first.keys()
    trained = {
        "joint": {"embedder", "generator", "discriminator"},
        "frozen": {"generator", "discriminator"},
        "contrastive": {"embedder"},
    }[config.mode]
    assert set(after.params) == set(after.opt) == trained
    for network in trained:
        old, new = before.params[network], after.params[network]
        moved = [(a != b).any() for a, b in zip(*map(jax.tree.leaves, (old, new)), strict=True)]
        assert np.mean(moved) > 0.3, network
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after))
    if config.mode == "frozen":
        same = jax.tree.map(np.array_equal, before.ema["embedder"], after.ema["embedder"])
        assert all(jax.tree.leaves(same))
    if config.embedder.learned_temperature:
        scales = [tree.params["embedder"]["log_scale"] for tree in (before, after)]
        assert scales[0] != scales[1]
    assert int(after.step) == 2


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("data.ground_size", (9, 32), r"config.data.ground_size=\(9, 32\): both sides must be"),
        ("data.aerial_size", (18, 18), r"the nearest valid size is \((16, 16|20, 20)\)"),
    ],
)
def test_sizes_that_cannot_be(field, value, message):
    with pytest.raises(UserError, match=message):
        make_networks(make_tiny_config(**{field: value}))


def test_a_structure_stage_that_is_trained_first_must_exist():
    fields = {"generator.facade_features": (), "data.ground_size": (4, 16)}
    with pytest.raises(UserError, match="config.train.structure_steps=5: this generator has no"):
        make_networks(make_tiny_config(**fields | {"train.structure_steps": 5}))
    with pytest.raises(UserError, match="config.losses.style_kept=True: the style encoder learns"):
        make_networks(make_tiny_config(**{"losses.style_kept": True}))


_POLAR = {"generator.guidance": "pixels", "generator.polar_source": True}


_READER = {"generator.reader_width": 16}


def test_a_reader_has_a_width_that_sixteen_divides():
    with pytest.raises(UserError, match="config.generator.reader_width=8: a multiple of 16; 0 is"):
        make_networks(make_tiny_config(**{"generator.reader_width": 8}))


def test_polar_coordinates_are_those_of_an_aerial_source():
    with pytest.raises(UserError, match="config.generator.polar_source=True: polar coordinates"):
        make_networks(make_tiny_config("g2a", **_POLAR))


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        (_POLAR, "polar_source=True"),
        (_READER, "reader_width=16"),
        ({"generator.aain_form": "rays"}, "aain_form='rays'"),
    ],
)
def test_directions_are_known_of_panoramas_and_square_aerial_images(fields, named):
    with pytest.raises(UserError, match=f"config.generator.{named}: only the columns of a panor"):
        make_networks(make_tiny_config(**fields | {"data.panorama": False}))
    with pytest.raises(UserError, match=rf"aerial_size=\(16, 32\): config.generator.{named} needs"):
        make_networks(make_tiny_config(**fields | {"data.aerial_size": (16, 32)}))


@pytest.mark.parametrize(
    "fields",
    [
        {"embedder.saig.stem_strides": (2, 4)},
        {"embedder.saig.stem_strides": (4, 2), "generator.fine_tokens": 2},
        {"embedder.backbone": "convnext", "embedder.convnext.widths": (4,)},
        {"generator.fine_tokens": -1},
    ],
)
def test_fine_tokens_need_last_halvings(fields):
    config = make_tiny_config(**{"generator.fine_tokens": 1} | fields)
    with pytest.raises(UserError, match="it counts halvings, the embedder"):
        make_networks(config)
