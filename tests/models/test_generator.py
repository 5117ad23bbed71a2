import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import make_batch, make_tiny_config

from retroguide_jax.config import load_config
from retroguide_jax.errors import UserError
from retroguide_jax.models.generator import FacadeBlock, StructureBlock
from retroguide_jax.networks import make_networks

NUM = 3


class Drawer:
    """A generator with random parameters, and one compiled function that draws with it."""

    def __init__(self, **fields):
        config = make_tiny_config(**fields)
        self.generator = make_networks(config).generator
        rng = np.random.default_rng(0)
        self.inputs = {
            "embedding": rng.normal(size=(NUM, 16)).astype(np.float32),
            "tokens": rng.normal(size=(NUM, 16, 8)).astype(np.float32),
            "style": rng.normal(size=(NUM, 4)).astype(np.float32),
            "keys": jax.random.split(jax.random.key(0), NUM),
        }
        self.target = make_batch(config)["ground"][:NUM]
        z = np.zeros((NUM, 4), np.float32)
        shapes = jax.eval_shape(
            lambda: self.generator.init(
                jax.random.key(0),
                *[self.inputs[name] for name in ("embedding", "tokens")],
                z,
                self.target,
                self.inputs["keys"],
            )
        )
        # No parameter at zero: a part that is switched off at first would hide its dependencies.
        self.variables = jax.tree.map(
            lambda leaf: 0.5 * rng.normal(size=leaf.shape).astype(np.float32), shapes
        )
        self._draw = jax.jit(
            lambda variables, inputs: self.generator.apply(
                variables,
                *(inputs[name] for name in ("embedding", "tokens", "style", "keys")),
                method="synthesize",
            )
        )

    def draw(self, **changes):
        return self._draw(self.variables, self.inputs | changes)

    def depends_on(self, name):
        changed = jnp.roll(self.inputs[name], 1, 0)
        difference = self.draw(**{name: changed})[0] - self.draw()[0]
        return bool(jnp.abs(difference).max() > 1e-4)


@pytest.fixture(scope="module")
def drawer():
    return Drawer()


def test_images_lie_in_range_and_low_is_half_as_large(drawer):
    image, low = drawer.draw()
    assert image.shape == (NUM, 8, 32, 3) and low.shape == (NUM, 4, 16, 3)
    assert image.dtype == low.dtype == jnp.float32
    assert jnp.abs(image).max() <= 1.0 and jnp.abs(low).max() <= 1.0
    assert image.std() > 0.01


def test_an_image_does_not_depend_on_the_batch(drawer):
    together, _ = drawer.draw()
    alone, _ = drawer.draw(**{name: value[1:2] for name, value in drawer.inputs.items()})
    np.testing.assert_allclose(alone[0], together[1], rtol=1e-3, atol=1e-4)


def test_layer_noise_changes_the_image(drawer):
    assert drawer.depends_on("keys")


def test_style_codes_lie_on_a_sphere(drawer):
    apply_fn = drawer.generator.apply
    z = np.random.default_rng(1).normal(size=(NUM, 4)).astype(np.float32)
    mapped = apply_fn(drawer.variables, z, method="map_noise")
    encoded = apply_fn(drawer.variables, drawer.target, method="encode_style")
    for code in (mapped, encoded):
        np.testing.assert_allclose(jnp.square(code).sum(-1), 4.0, rtol=1e-4)
        assert jnp.abs(code[0] - code[1]).max() > 1e-3
    # The mapping network depends on the direction of the noise, not on its length.
    longer = apply_fn(drawer.variables, 3 * z, method="map_noise")
    np.testing.assert_allclose(longer, mapped, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("fields", "used"),
    [
        ({}, {"embedding", "style"}),
        ({"generator.aain_form": "channel"}, {"embedding", "style"}),
        ({"generator.aain_form": "plain"}, {"embedding", "style"}),
        ({"generator.aain_form": "tokens"}, {"embedding", "tokens", "style"}),
        ({"generator.aain_form": "rays"}, {"embedding", "tokens", "style"}),
        ({"generator.reader_width": 16}, {"embedding", "tokens", "style"}),
        (
            {"generator.aain_form": "tokens", "generator.use_embedding": False},
            {"style"},
        ),
        ({"generator.use_style": False}, {"embedding"}),
        ({"generator.start_from_embedding": False}, {"embedding", "style"}),
        ({"generator.start_rank": 2}, {"embedding", "style"}),
        ({"generator.facade_features": ()}, {"embedding", "style"}),
        ({"generator.num_regions": 3}, {"embedding", "style"}),
        ({"generator.unfold": 2}, {"embedding", "style"}),
        ({"generator.unfold": 2, "generator.facade_features": ()}, {"embedding", "style"}),
    ],
    ids=lambda value: "-".join(sorted(map(str, value))) or "default",
)
def test_what_the_image_depends_on(fields, used):
    drawer = Drawer(**fields)
    found = {name for name in ("embedding", "tokens", "style") if drawer.depends_on(name)}
    assert found == used
    assert drawer.draw()[0].shape == drawer.target.shape
    assert (drawer.draw()[1] is None) == (fields.get("generator.facade_features") == ())


def test_a_factored_start_is_small():
    full, factored = (
        Drawer(**{"generator.start_rank": rank}).variables["params"] for rank in (0, 2)
    )
    num = full["start_map"]["bias"].size // 8
    assert factored["start_map"]["bias"].size == 2 * 8
    assert factored["start_mix"].shape == (num, 2) and "start_mix" not in full


@pytest.mark.parametrize("num_regions", [0, 1, 3])
def test_parameters_of_the_region_masks(num_regions):
    params = Drawer(**{"generator.num_regions": num_regions}).variables["params"]["facade_0"]
    if num_regions == 0:
        assert "RegionMask_0" not in params
    else:
        assert params["RegionMask_0"]["Conv_1"]["kernel"].shape[-1] == num_regions
    width = params["RegionModulation_0"]["Dense_1"]["bias"].shape[0]
    assert width == 2 * max(1, num_regions) * 8


def test_blocks_commute_with_rolling_the_panorama():
    """The noise has weight zero at first; everything else turns with the panorama."""
    h = np.random.default_rng(0).normal(size=(2, 4, 8, 6)).astype(np.float32)
    condition = np.ones((2, 5), np.float32)
    tokens = np.ones((2, 3, 4), np.float32)
    keys = jax.random.split(jax.random.key(0), 2)
    blocks = [
        (FacadeBlock(4, True, 1, 4, 8, circular=True), lambda h: (h, condition, keys)),
        (
            StructureBlock(4, True, "mask", circular=True),
            lambda h: (h, condition, tokens, condition, keys),
        ),
    ]
    for block, args in blocks:
        variables = jax.jit(block.init)(jax.random.key(0), *args(h))
        apply_fn = jax.jit(block.apply)
        out = apply_fn(variables, *args(h))
        rolled = apply_fn(variables, *args(np.roll(h, 3, 2)))
        assert out.shape == (2, 8, 16, 4)
        np.testing.assert_allclose(rolled, np.roll(out, 6, 2), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("default", (128, 512)),
        ("city_256", (128, 512)),
        ("city_256:g2a", (256, 256)),
        ("city_128", (64, 256)),
        ("city", (32, 128)),
        ("city:g2a", (64, 64)),
    ],
)
def test_packaged_configs_draw_their_target_size_with_float32_parameters(name, target):
    networks = make_networks(load_config(name, []))
    generator, embedder = networks.generator, networks.embedder
    source = jnp.zeros((2, *networks.sizes[networks.source_view], 3))
    images = jnp.zeros((2, *target, 3))

    def run():
        key, keys = jax.random.key(0), jax.random.split(jax.random.key(0), 2)
        (embedding, tokens), _ = embedder.init_with_output(
            key, source, networks.source_view, method="guide"
        )
        z = jnp.zeros((2, generator.z_dim))
        drawn, variables = generator.init_with_output(key, embedding, tokens, z, images, keys)
        (logits,), disc_variables = networks.discriminator.init_with_output(
            key, drawn[0], embedding
        )
        return drawn, logits, (variables, disc_variables)

    (image, low), logits, variables = jax.eval_shape(run)
    assert networks.sizes[networks.target_view] == target
    assert image.shape == (2, *target, 3) and image.dtype == low.dtype == jnp.float32
    assert logits.shape == (2,) and logits.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}


@pytest.mark.parametrize("field", ["generator.unfold", "discriminator.fold"])
def test_only_halves_are_folded(field):
    with pytest.raises(UserError, match=f"config.{field}=3"):
        make_networks(make_tiny_config(**{field: 3}))
