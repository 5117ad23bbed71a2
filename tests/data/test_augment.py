"""Joint augmentation: a group of transformations that keeps the geometry of a rendered world."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from retroguide_jax.data.augment import AugmentPair, mirror_pair, rotate_pair

PAIRS = st.tuples(
    st.integers(1, 9).flatmap(lambda side: hnp.arrays(np.uint8, (side, side, 3))),
    st.tuples(st.integers(1, 4), st.integers(1, 5)).flatmap(
        lambda size: hnp.arrays(np.uint8, (size[0], 4 * size[1], 3))
    ),
)


def assert_same(pair, other):
    for image, wanted in zip(pair, other, strict=True):
        np.testing.assert_array_equal(image, wanted)


@given(PAIRS, st.integers(-5, 5), st.integers(-5, 5))
def test_quarter_turns_and_mirrors_form_the_symmetry_group_of_the_square(pair, j, k):
    assert_same(rotate_pair(*rotate_pair(*pair, j), k), rotate_pair(*pair, j + k))
    assert_same(rotate_pair(*pair, 4), pair)
    assert_same(mirror_pair(*mirror_pair(*pair)), pair)
    turned_back = rotate_pair(*mirror_pair(*rotate_pair(*mirror_pair(*pair), k)), k)
    assert_same(turned_back, pair)


def render_pillars(azimuths_and_colours, num_columns=64, size=65):
    """A known world: coloured pillars at clockwise azimuths (radians from north), both views."""
    aerial = np.zeros((size, size, 3), np.uint8)
    ground = np.zeros((4, num_columns, 3), np.uint8)
    for azimuth, colour in azimuths_and_colours:
        row = size // 2 - 0.4 * size * np.cos(azimuth)
        column = size // 2 + 0.4 * size * np.sin(azimuth)
        aerial[round(row), round(column)] = colour
        # North is the border between the two middle columns; azimuth grows to the right.
        ground[:, int(np.floor((azimuth / (2 * np.pi) + 0.5) * num_columns)) % num_columns] = colour
    return aerial, ground


@pytest.mark.parametrize("k", range(4))
def test_rotation_is_that_of_the_world(k):
    world = [(0.3, (255, 0, 0)), (1.9, (0, 255, 0)), (-2.2, (0, 0, 255))]
    # A counter-clockwise turn makes every clockwise azimuth smaller.
    turned = [(azimuth - k * np.pi / 2, colour) for azimuth, colour in world]
    assert_same(rotate_pair(*render_pillars(world), k), render_pillars(turned))


def test_mirror_is_that_of_the_world():
    world = [(0.3, (255, 0, 0)), (1.9, (0, 255, 0)), (-2.2, (0, 0, 255))]
    mirrored = [(-azimuth, colour) for azimuth, colour in world]
    assert_same(mirror_pair(*render_pillars(world)), render_pillars(mirrored))


def test_shapes_without_quarter_turns_are_refused():
    with pytest.raises(ValueError, match="square"):
        rotate_pair(np.zeros((4, 5, 3)), np.zeros((2, 8, 3)), 1)
    with pytest.raises(ValueError, match="divisible by 4"):
        rotate_pair(np.zeros((4, 4, 3)), np.zeros((2, 6, 3)), 1)


@pytest.mark.parametrize("rotate, num_expected", [(True, 8), (False, 2)])
def test_every_allowed_symmetry_is_drawn(rotate, num_expected):
    pair = render_pillars([(0.3, (255, 0, 0))])
    element = {"aerial": pair[0], "ground": pair[1], "other": 7}
    rng = np.random.default_rng(0)
    drawn = [AugmentPair(rotate).random_map(element, rng) for _ in range(400)]
    counts = {}
    for result in drawn:
        key = result["aerial"].tobytes() + result["ground"].tobytes()
        counts[key] = counts.get(key, 0) + 1
        assert result["other"] == 7
    assert len(counts) == num_expected
    assert min(counts.values()) > 400 / num_expected * 0.5


@pytest.fixture(scope="module")
def town():
    """A rendered scene, its weather, and a function that renders both views of a scene."""
    from retroguide_jax.datasets.procedural_city import render_aerial, render_ground, town, weather

    fair = weather.sample_weather(np.random.default_rng(1))

    def render(scene):
        view = render_ground.render_ground(scene, fair, size=(32, 128), vertical_fov=90.0)
        aerial = render_aerial.render_aerial(scene, size=64)
        return aerial, np.where(view.sky[..., None], 0, view.image)

    return town.make_scene(5, "market_town", cell_size=0.5), render


def assert_close(pair, other):
    """Mean difference of grey levels: about 1 if turned rightly (edges), over 20 if wrongly."""
    for image, wanted in zip(pair, other, strict=True):
        assert np.abs(image.astype(int) - wanted.astype(int)).mean() < 3


@pytest.mark.parametrize("k", range(4))
def test_rotated_images_are_images_of_the_rotated_town(town, k):
    from retroguide_jax.datasets.procedural_city.scene import rotate_scene

    scene, render = town
    assert_close(rotate_pair(*render(scene), k), render(rotate_scene(scene, k)))


def test_mirrored_images_are_images_of_the_mirrored_town(town):
    from retroguide_jax.datasets.procedural_city.scene import mirror_scene

    scene, render = town
    assert_close(mirror_pair(*render(scene)), render(mirror_scene(scene)))
