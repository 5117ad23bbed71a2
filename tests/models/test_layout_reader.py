import jax
import numpy as np
import pytest

from retroguide_jax.models.layout_reader import LayoutReader

NET = LayoutReader(num_classes=5, features=(4, 6, 8))


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).uniform(-1, 1, (2, 16, 64, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def read(images):
    variables = NET.init(jax.random.key(0), images)
    return jax.jit(lambda images: NET.apply(variables, images))


def test_every_pixel_gets_logits_and_a_depth(read, images):
    logits, log_depth = read(images)
    assert logits.shape == (2, 16, 64, 5) and log_depth.shape == (2, 16, 64)
    assert np.std(logits) > 0 and np.std(log_depth) > 0


def test_turning_round_turns_the_answer(read, images):
    turn = 3 * NET.GRAIN
    for answer, turned in zip(read(images), read(np.roll(images, turn, 2)), strict=True):
        np.testing.assert_allclose(np.roll(answer, turn, 2), turned, atol=1e-5)


def test_rows_are_distinguished(read, images):
    # On a flat image, rows in the middle differ by nothing but the position.
    logits, _ = read(np.zeros_like(images))
    assert np.abs(logits[:, 4] - logits[:, 12]).max() > 1e-3
    np.testing.assert_allclose(logits[:, :, :8], logits[:, :, 8:16], atol=1e-5)


def test_answers_come_back_to_their_pixels():
    # Far from a changed pixel nothing changes, and what changes surrounds it.
    images = np.zeros((1, 16, 256, 3), np.float32)
    variables = NET.init(jax.random.key(0), images)
    changed = images.copy()
    changed[0, 8, 128] = 1.0
    (one, _), (other, _) = NET.apply(variables, images), NET.apply(variables, changed)
    difference = np.abs(np.asarray(other - one)).sum((0, 1, 3))
    columns = np.flatnonzero(difference > 1e-6)
    assert 56 <= columns.min() <= 126 and 130 <= columns.max() <= 200
    assert 120 <= difference.argmax() <= 136
