"""The reader of directions: what a column depends on, and how it turns with the source."""

import jax
import numpy as np
import pytest

from retroguide_jax.models.direction_reader import DirectionReader

GRID, SIZE, FEATURES, TOKENS = (8, 8), (4, 16), 3, 6


@pytest.fixture(scope="module")
def read():
    reader = DirectionReader(SIZE, FEATURES, GRID, width=32, depth=1)
    tokens = np.zeros((1, 64, TOKENS), np.float32)
    variables = reader.init(jax.random.key(0), tokens)
    return lambda maps: np.asarray(reader.apply(variables, maps.reshape(len(maps), 64, TOKENS)))


@pytest.fixture(scope="module")
def maps():
    return np.random.default_rng(0).normal(size=(2, *GRID, TOKENS)).astype(np.float32)


def test_shape(read, maps):
    assert read(maps).shape == (2, *SIZE, FEATURES)


def test_a_token_is_seen_in_its_direction_and_near_it_at_every_height(read, maps):
    changed = maps.copy()
    changed[:, 0, 3:5] += 1.0  # due north, far away: the middle columns
    moved = np.abs(read(changed) - read(maps)).max(axis=(0, 3))
    # The far row is sampled within two columns of it, and the one layer adds two on either side.
    assert (moved[:, 7:9] > 1e-3).all()
    assert (moved[:, [0, 1, 2, 13, 14, 15]] < 1e-5).all()


def test_a_turned_source_turns_the_map(read, maps):
    turned = np.rot90(maps, axes=(1, 2))  # anticlockwise, so that east comes to lie north
    np.testing.assert_allclose(read(turned), np.roll(read(maps), -4, axis=2), atol=1e-5)


@pytest.fixture(scope="module")
def read_panorama():
    reader = DirectionReader((16, 16), FEATURES, (4, 16), width=32, circular=False, depth=1)
    tokens = np.zeros((1, 64, TOKENS), np.float32)
    variables = reader.init(jax.random.key(0), tokens)
    return lambda maps: np.asarray(reader.apply(variables, maps.reshape(len(maps), 64, TOKENS)))


@pytest.fixture(scope="module")
def panoramas():
    return np.random.default_rng(0).normal(size=(2, 4, 16, TOKENS)).astype(np.float32)


def test_a_panorama_s_token_is_seen_in_its_direction_at_every_distance(read_panorama, panoramas):
    changed = panoramas.copy()
    changed[:, 1, 7:9] += 1.0  # north: the middle columns
    moved = np.abs(read_panorama(changed) - read_panorama(panoramas)).max(axis=(0, 3))
    assert moved.shape == (16, 16)
    assert (moved[:7, 7:9] > 1e-3).all()
    assert (moved[8:] < 1e-5).all()  # two columns more on either side are still less than east


def test_a_turned_panorama_turns_the_map(read_panorama, panoramas):
    turned = read_panorama(np.roll(panoramas, -4, axis=2))  # what was in the east is north
    np.testing.assert_allclose(turned, np.rot90(read_panorama(panoramas), axes=(1, 2)), atol=1e-5)
