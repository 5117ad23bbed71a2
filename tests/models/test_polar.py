import jax.numpy as jnp
import numpy as np

from retroguide_jax.models.polar import bearing_weights, from_polar, to_polar


def test_north_is_in_the_centre_east_to_the_right_and_the_camera_at_the_bottom():
    image = np.zeros((1, 32, 32, 3), np.float32)
    image[0, :8, 12:20] = (1, 0, 0)  # north, far away
    image[0, 12:20, 24:] = (0, 1, 0)  # east, far away
    image[0, 14:18, 14:18] = (0, 0, 1)  # at the camera
    polar = np.asarray(to_polar(jnp.asarray(image), (16, 64)))
    assert polar.shape == (1, 16, 64, 3)
    np.testing.assert_allclose(polar[0, 2, 31:33], [[1, 0, 0]] * 2, atol=0.01)
    np.testing.assert_allclose(polar[0, 2, 47:49], [[0, 1, 0]] * 2, atol=0.01)
    np.testing.assert_allclose(polar[0, -1], [[0, 0, 1]] * 64, atol=0.01)
    np.testing.assert_allclose(polar[0, 2, [0, 16, 63]], np.zeros((3, 3)), atol=0.01)


def test_turning_the_aerial_image_rolls_its_polar_image():
    rng = np.random.default_rng(0)
    image = rng.uniform(-1, 1, (2, 32, 32, 3)).astype(np.float32)
    turned = np.rot90(image, axes=(1, 2)).copy()  # counter-clockwise: north comes from east
    polar, other = (np.asarray(to_polar(jnp.asarray(x), (8, 64))) for x in (image, turned))
    np.testing.assert_allclose(other, np.roll(polar, -16, axis=2), atol=1e-5)


def test_a_panorama_that_rolls_by_a_quarter_turns_the_aerial_image():
    weights = bearing_weights(8, (4, 4))
    np.testing.assert_allclose(weights.sum(-1), 1.0, atol=1e-12)
    np.testing.assert_allclose(np.roll(weights, 2, -1), np.rot90(weights), atol=1e-12)
    # North-west and north-east of the camera lie halfway between the columns beside them.
    np.testing.assert_allclose(weights[1, 1], [0, 0, 0.5, 0.5, 0, 0, 0, 0], atol=1e-12)
    np.testing.assert_allclose(weights[1, 2], [0, 0, 0, 0, 0.5, 0.5, 0, 0], atol=1e-12)


def test_from_polar_puts_each_direction_where_to_polar_found_it():
    lines = np.zeros((1, 16, 64, 3), np.float32)
    lines[0, :8, 24:40] = (1, 0, 0)  # north, far away
    lines[0, :, 40:56] = (0, 1, 0)  # east
    lines[0, 15] = (0, 0, 1)  # at the camera
    aerial = np.asarray(from_polar(jnp.asarray(lines), 33))
    assert aerial.shape == (1, 33, 33, 3)
    np.testing.assert_allclose(aerial[0, 2, 16], [1, 0, 0], atol=1e-6)
    np.testing.assert_allclose(aerial[0, 13, 16], [0, 0, 0], atol=1e-6)  # north, but near
    np.testing.assert_allclose(aerial[0, 16, [20, 32]], [[0, 1, 0]] * 2, atol=1e-6)
    np.testing.assert_allclose(aerial[0, 16, 16], [0, 0, 1], atol=1e-6)
    np.testing.assert_allclose(aerial[0, [32, 16], [16, 0]], np.zeros((2, 3)), atol=1e-6)


def test_from_polar_interpolates_round_the_full_circle_and_reaches_the_corners():
    turns = np.cos(2 * np.pi * (np.arange(64) + 0.5) / 64)  # -1 at the sides, north, 1 in the south
    lines = np.broadcast_to(turns[:, None], (1, 8, 64, 1))
    aerial = np.asarray(from_polar(jnp.asarray(lines, jnp.float32), 32))[0, ..., 0]
    rows = np.arange(32) - 15.5
    south = rows[:, None] / np.hypot(rows[:, None], rows)
    np.testing.assert_allclose(aerial, south, atol=2e-3)
    far = np.broadcast_to(np.arange(8.0)[:, None, None], (1, 8, 64, 1))
    aerial = np.asarray(from_polar(jnp.asarray(far, jnp.float32), 32))[0, ..., 0]
    distance = np.hypot(rows[:, None], rows) / (16 * 2**0.5)
    np.testing.assert_allclose(aerial, np.clip(7.5 - 8 * distance, 0, 7), atol=1e-5)
