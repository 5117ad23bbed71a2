import numpy as np
import pytest
from random_model import draw_inputs, make_model
from tiny import make_tiny_config

from retroguide_jax.data.images import to_uint8
from retroguide_jax.report.masks import draw_maps
from retroguide_jax.report.pictures import encode, lay_over


@pytest.mark.parametrize(
    ("fields", "kinds"),
    [
        ({}, ["gate", "gate", "mask"]),
        ({"generator.num_regions": 3, "train.remat": "blocks"}, ["gate"] * 2 + ["mask"] * 3),
        ({"generator.aain_form": "channel", "generator.num_regions": 0}, []),
    ],
)
def test_maps_lie_in_0_1_and_leave_the_image_as_it_is(fields, kinds):
    model = make_model(make_tiny_config(**fields))
    source, z = draw_inputs(model, 2)
    images, layers = draw_maps(model, source, z)
    drawn = to_uint8(model.generate(source, z))
    assert np.abs(images.astype(int) - drawn).max() <= 1
    assert [layer.kind for layer in layers] == kinds
    assert len({layer.name for layer in layers}) == len(layers)
    for layer in layers:
        assert layer.maps.shape == (2, 4, 16)
        assert layer.maps.min() >= 0 and layer.maps.max() <= 1 and np.ptp(layer.maps) > 0
    if "generator.num_regions" in fields and kinds:
        np.testing.assert_allclose(sum(layer.maps for layer in layers[2:]), 1, atol=1e-6)


def test_a_map_is_dark_at_0_and_bright_at_1():
    image = np.full((8, 32, 3), 128, np.uint8)
    laid = lay_over(image, np.linspace(0, 1, 32)[None].repeat(8, 0))
    assert laid.shape == image.shape and laid.dtype == np.uint8
    light = laid.astype(int).sum(-1)[4]
    assert np.all(np.diff(light) >= -1) and light[-1] > light[0] + 100


def test_small_pictures_are_kept_exactly_and_large_ones_made_small():
    rng = np.random.default_rng(0)
    assert encode(rng.integers(0, 256, (16, 16, 3), np.uint8)).startswith("data:image/png;")
    large = rng.integers(0, 256, (256, 512, 3), np.uint8)
    assert encode(large).startswith("data:image/webp;") and len(encode(large)) < large.nbytes
