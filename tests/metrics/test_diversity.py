import numpy as np
import pytest

from retroguide_jax.metrics import diversity


def fill(*levels):
    """uint8 [K, 1, 4, 4, 3], one flat image per level."""
    return np.stack([np.full((1, 4, 4, 3), level, np.uint8) for level in levels])


def test_mean_pairwise_distance_of_flat_images():
    distance = diversity.mean_pairwise_distance(fill(0, 51, 255))
    np.testing.assert_allclose(distance, [(51 + 204 + 255) / 3 / 255], rtol=1e-6)


def test_mean_pairwise_distance_is_zero_without_spread():
    np.testing.assert_array_equal(diversity.mean_pairwise_distance(fill(7, 7, 7)), [0])


def test_one_noise_has_no_distance():
    with pytest.raises(ValueError, match="at least 2"):
        diversity.mean_pairwise_distance(fill(7))


def test_mean_colour_looks_under_the_mask_only():
    images = np.zeros((2, 1, 8, 8, 3), np.uint8)
    images[0, 0, :2] = (51, 102, 255)
    mask = np.zeros((1, 8, 8), bool)
    mask[0, :2] = True
    colour = diversity.mean_colour(images, mask)
    np.testing.assert_allclose(colour, [[[0.2, 0.4, 1.0]], [[0, 0, 0]]], rtol=1e-6)


def test_mean_colour_without_mask_is_nan():
    mask = np.zeros((1, 20, 20), bool)
    mask[0, 0, :3] = True  # below one percent
    assert np.all(np.isnan(diversity.mean_colour(np.ones((1, 20, 20, 3), np.uint8), mask)))


def test_spread_ratio_of_equal_spreads_is_one():
    rng = np.random.default_rng(0)
    real = rng.normal(0.5, 0.1, (4000, 3))
    generated = rng.normal(0.5, 0.1, (3, 4000, 3))
    real[7] = np.nan
    ratio, num_images = diversity.compute_spread_ratio(generated, real)
    assert num_images == 3999
    assert abs(ratio - 1) < 0.03


def test_spread_ratio_by_hand():
    real = np.array([[0.2, 0.2, 0.2], [0.4, 0.4, 0.4]])  # variance 0.02
    generated = np.array([[[0.5, 0.5, 0.5]] * 2, [[0.6, 0.6, 0.6]] * 2])  # variance 0.005
    ratio, num_images = diversity.compute_spread_ratio(generated, real)
    assert num_images == 2
    np.testing.assert_allclose(ratio, 0.5, rtol=1e-6)


def test_spread_ratio_is_undefined_for_one_noise_or_equal_skies():
    real = np.array([[0.2] * 3, [0.4] * 3])
    assert np.isnan(diversity.compute_spread_ratio(real[None], real)[0])
    assert np.isnan(diversity.compute_spread_ratio(np.stack([real] * 2), real[:1].repeat(2, 0))[0])
    assert diversity.compute_spread_ratio(np.stack([real] * 2), real)[0] == 0
