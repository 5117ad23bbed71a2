"""The renders that stand for a perfect generator."""

import io

import numpy as np
import pytest
from PIL import Image
from retroguide_jax.datasets.procedural_city.pairs import render_pair
from retroguide_jax.datasets.procedural_city.procedural_city_dataset_builder import Builder


@pytest.fixture
def perfect(import_benchmark):
    return import_benchmark("perfect_generator")


def test_weather_1_is_the_data_set_s_own(perfect):
    view = next(c.view for c in Builder.BUILDER_CONFIGS if c.name == "city_smoke")
    pair = render_pair(view, perfect.SPLIT, 3)
    own, other = perfect.render_again(view, pair["seed"], [1, 2])
    np.testing.assert_array_equal(own, np.asarray(Image.open(io.BytesIO(pair["ground"]))))
    assert np.abs(own.astype(int) - other).mean() > 1


def test_images_that_never_change_have_no_spread(perfect):
    rng = np.random.default_rng(0)
    sky_road_building = np.repeat([0, 1, 8], 4)
    labels = np.broadcast_to(sky_road_building[:, None], (8, 12, 12))
    real = rng.integers(0, 256, (8, 12, 12, 3), np.uint8)

    class Reader:
        variables = None

        @staticmethod
        def apply(_, images):
            return {"labels": labels[: len(images)]}

    scores = perfect._score(np.stack([real, real]), real, labels, Reader)
    expected = dict.fromkeys(("sky_spread_ratio", "light_spread_ratio", "facade_spread_ratio"), 0)
    expected |= {"label_consistency": 1, "label_agreement": 1}
    assert {name: scores[name].value for name in expected} == expected
