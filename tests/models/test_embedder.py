import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from retroguide_jax.errors import UserError
from retroguide_jax.models.convnext import ConvNeXtTower
from retroguide_jax.models.embedder import Embedder, SaigTower, SmdHead, Stem

TOWER = {
    "width": 8,
    "depth": 1,
    "num_heads": 2,
    "stem_features": (8, 8),
    "stem_strides": (2, 2),
    "stem_norm": "group",
}
GRIDS = {"aerial": (4, 4), "ground": (2, 8)}
AERIAL = np.random.default_rng(0).uniform(-1, 1, (3, 16, 16, 3)).astype(np.float32)
GROUND = np.random.default_rng(1).uniform(-1, 1, (3, 8, 32, 3)).astype(np.float32)


def count(tree):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def shapes_of(module, *shapes, **kwargs):
    """Output and parameters of a module as shapes, without computing them."""
    args = [jnp.zeros(shape) for shape in shapes]
    return jax.eval_shape(lambda: module.init_with_output(jax.random.key(0), *args, **kwargs))


def make_embedder(**fields):
    return Embedder(**({"grids": GRIDS, "tower": TOWER, "head_outputs": 2} | fields))


@pytest.mark.smoke
@pytest.mark.parametrize("size", [(256, 256), (128, 512)])
@pytest.mark.parametrize(("depth", "expected"), [(11, 9_100_800), (22, 15_614_208)])
def test_published_parameter_counts_of_saig(size, depth, expected):
    tower = SaigTower(grid=(size[0] // 16, size[1] // 16), depth=depth)
    (tokens, finer), variables = shapes_of(tower, (1, *size, 3))
    assert tokens.shape == (1, 256, 384)
    height, width = size
    stages = [(8, 256), (4, 128), (2, 64), (1, 3)]
    assert [x.shape for x in finer] == [(1, height // s, width // s, c) for s, c in stages]
    assert count(variables["params"]) == expected


def test_published_parameter_count_of_smd():
    out, variables = shapes_of(SmdHead(), (1, 256, 384))
    assert out.shape == (1, 3072)
    assert count(variables["params"]) == 527_624


def test_parameter_count_of_convnext_base():
    """timm's convnext_base without its head, final norm included; and the same by formula."""
    (tokens, finer), variables = shapes_of(ConvNeXtTower(), (1, 64, 128, 3))
    assert tokens.shape == (1, 2 * 4, 1024)
    assert [x.shape for x in finer] == [(1, 4, 8, 512), (1, 8, 16, 256), (1, 16, 32, 128)]
    widths, depths = (128, 256, 512, 1024), (3, 3, 27, 3)
    # depthwise 7 x 7, norm, C -> 4C -> C, layer scale; all with biases
    blocks = sum(
        d * ((49 + 1) * w + 2 * w + (w + 1) * 4 * w + (4 * w + 1) * w + w)
        for w, d in zip(widths, depths, strict=True)
    )
    stem = (16 * 3 + 1) * 128 + 2 * 128
    downs = sum(2 * a + (4 * a + 1) * b for a, b in zip(widths, widths[1:], strict=False))
    assert count(variables["params"]) == stem + downs + blocks + 2 * 1024 == 87_566_464


@pytest.mark.parametrize("levels", [1, 2])
def test_fine_tokens_are_tokens_beside_finer_features(levels):
    embedder = make_embedder(fine_tokens=levels)
    variables = jax.jit(functools.partial(embedder.init, method="both"))(
        jax.random.key(0), AERIAL, GROUND
    )
    apply_fn = jax.jit(embedder.apply, static_argnums=2, static_argnames="method")
    embedding, tokens = apply_fn(variables, AERIAL, "aerial")
    guidance, fine = apply_fn(variables, AERIAL, "aerial", method="guide")
    np.testing.assert_array_equal(guidance, embedding)
    side, channels = round(tokens.shape[1] ** 0.5), tokens.shape[2]
    times = 2**levels
    fine = fine.reshape(len(fine), times * side, times * side, -1)
    own = tokens.reshape(-1, side, side, channels)
    np.testing.assert_allclose(fine[:, 1::times, ::times, :channels], own, atol=1e-5)
    # The last channels differ from place to place, those of coarser maps between blocks of them.
    assert np.abs(fine[:, 1::2, :, -1] - fine[:, ::2, :, -1]).max() > 1e-3
    if levels > 1:
        np.testing.assert_array_equal(fine[:, 1::2, :, channels], fine[:, ::2, :, channels])


def test_embeddings_are_unit_rows_of_the_readout():
    embedder = make_embedder()
    variables = jax.jit(embedder.init, static_argnames="method")(
        jax.random.key(0), AERIAL, GROUND, method="both"
    )
    aerial, ground = jax.jit(embedder.apply, static_argnames="method")(
        variables, AERIAL, GROUND, method="both"
    )
    assert aerial.shape == ground.shape == (3, 2 * 8)
    assert aerial.dtype == jnp.float32
    np.testing.assert_allclose(np.linalg.norm(aerial, axis=1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(ground, axis=1), 1.0, rtol=1e-5)
    assert np.isclose(embedder.apply(variables, method="inverse_temperature"), 1 / 0.02)
    assert np.abs(aerial[0] - aerial[1]).max() > 1e-4


@pytest.mark.parametrize("head", ["smd", "gap"])
def test_heads_and_shared_towers(head):
    apart, shared = (make_embedder(head=head, shared=shared) for shared in (False, True))
    args = (AERIAL.shape, GROUND.shape)
    (aerial, ground), separate = shapes_of(apart, *args, method="both")
    assert aerial.shape == ground.shape == (3, 16 if head == "smd" else 8)
    _, together = shapes_of(shared, *args, method="both")
    readouts = 2 * count(shapes_of(SmdHead(2), (1, 16, 8))[1]) if head == "smd" else 0
    towers = count(separate) - readouts
    assert towers % 2 == 0
    assert count(together) == towers // 2 + readouts


def test_learned_temperature_starts_at_the_given_one():
    embedder = make_embedder(learned_temperature=True, temperature=0.05)
    variables = jax.jit(embedder.init, static_argnames="method")(
        jax.random.key(0), AERIAL, GROUND, method="both"
    )
    assert np.isclose(np.exp(variables["params"]["log_scale"]), 20.0)


@pytest.mark.parametrize(("log_scale", "scale"), [(3.0, np.exp(3.0)), (9.0, 100.0)])
def test_learned_temperature_has_a_smallest_value(log_scale, scale):
    embedder = make_embedder(learned_temperature=True)
    variables = {"params": {"log_scale": jnp.float32(log_scale)}}
    found = embedder.apply(variables, method="inverse_temperature")
    assert np.isclose(found, scale, rtol=1e-5)


def test_position_embedding_is_resized_for_other_inputs():
    tower = SaigTower(grid=(4, 4), **TOWER)
    variables = jax.jit(tower.init)(jax.random.key(0), AERIAL)
    assert variables["params"]["position"].shape == (4, 4, 8)
    larger = jnp.zeros((1, 24, 32, 3))
    assert jax.eval_shape(tower.apply, variables, larger)[0].shape == (1, 6 * 8, 8)
    same_shapes = jax.eval_shape(tower.init, jax.random.key(0), larger)
    assert jax.tree.structure(same_shapes) == jax.tree.structure(variables)


def test_batch_norm_statistics_move_only_in_training():
    tower = SaigTower(grid=(4, 4), **(TOWER | {"stem_norm": "batch"}))
    variables = jax.jit(tower.init)(jax.random.key(0), AERIAL)
    apply_fn = jax.jit(
        lambda train: tower.apply(variables, AERIAL, train, mutable=["batch_stats"]),
        static_argnums=0,
    )
    (trained, _), updated = apply_fn(True)
    (plain, _), kept = apply_fn(False)
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), updated, dict(kept))
    assert all(jax.tree.leaves(moved))
    same = jax.tree.map(
        lambda a, b: bool((a == b).all()), kept["batch_stats"], variables["batch_stats"]
    )
    assert all(jax.tree.leaves(same))
    assert np.abs(trained - plain).max() > 1e-3


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_stem_of_a_panorama_commutes_with_rolling(norm):
    stem = Stem((8, 8), (2, 2), 8, norm, circular=True)
    variables = jax.jit(stem.init, static_argnums=2)(jax.random.key(0), GROUND, True)
    apply_fn = jax.jit(lambda x: stem.apply(variables, x, True, mutable=["batch_stats"])[0][0])
    out, rolled = apply_fn(GROUND), apply_fn(np.roll(GROUND, 3 * 4, 2))
    np.testing.assert_allclose(rolled, np.roll(out, 3, 2), rtol=1e-3, atol=1e-4)


def test_convnext_of_a_panorama_is_circular():
    tower = ConvNeXtTower((4, 4, 4, 8), (1, 1, 1, 1), circular=True)
    images = np.tile(GROUND, (1, 4, 4, 1))[:1]
    variables = jax.jit(tower.init)(jax.random.key(0), images)
    # Layer scales start at 1e-6, where an error in a block would hide.
    variables = jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf + 1.0 if "layer_scale" in str(path) else leaf, variables
    )
    apply_fn = jax.jit(tower.apply)
    out = np.asarray(apply_fn(variables, images)[0]).reshape(1, 4, 8)
    rolled = np.asarray(apply_fn(variables, np.roll(images, 32, 2))[0]).reshape(1, 4, 8)
    np.testing.assert_allclose(rolled, np.roll(out, 1, 1), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"backbone": "vit"}, "embedder.backbone='vit'"),
        ({"head": "cls"}, "embedder.head='cls'"),
        ({"tower": TOWER | {"stem_norm": "layer"}}, "embedder.saig.stem_norm='layer'"),
    ],
)
def test_unknown_parts(fields, message):
    with pytest.raises(UserError, match=message):
        shapes_of(make_embedder(**fields), AERIAL.shape, GROUND.shape, method="both")


def test_parameters_stay_float32_under_bfloat16():
    embedder = make_embedder(dtype=jnp.bfloat16)
    (aerial, _), variables = shapes_of(embedder, AERIAL.shape, GROUND.shape, method="both")
    assert aerial.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
