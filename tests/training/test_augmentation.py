import jax
import numpy as np
import pytest

from retroguide_jax.errors import UserError
from retroguide_jax.training.augment import make_augmentation

NUM, SIZE = 16, (8, 32, 3)
IMAGES = np.random.default_rng(0).uniform(-1, 1, (NUM, *SIZE)).astype(np.float32)
KEY = jax.random.key(0)


def test_at_strength_0_nothing_is_done():
    augment = make_augmentation(KEY, NUM, 0.0, True)
    assert augment(IMAGES) is IMAGES


@pytest.mark.parametrize("roll", [False, True])
def test_pairs_are_changed_alike_and_rows_are_not(roll):
    augment = make_augmentation(KEY, NUM, 1.0, roll)
    same = np.repeat(IMAGES[:1], NUM, 0)
    once, again = augment(same), augment(same)
    np.testing.assert_array_equal(once, again)
    assert len(np.unique(np.round(np.asarray(once).mean((1, 2, 3)), 5))) == NUM
    # A hole has the same position in any two images; no image is lost entirely.
    holes = [np.asarray(augment(images) == 0).all(-1) for images in (IMAGES, 1 + IMAGES)]
    np.testing.assert_array_equal(*holes)
    assert 0 < np.mean(holes) < 0.25


def test_a_roll_keeps_every_column():
    weak = make_augmentation(KEY, NUM, 1.0, False)
    rolled = make_augmentation(KEY, NUM, 1.0, True)
    plain, moved = np.asarray(weak(IMAGES)), np.asarray(rolled(IMAGES))
    shifts = []
    for a, b in zip(plain, moved, strict=True):
        fits = [s for s in range(SIZE[1]) if np.allclose(np.roll(a, s, 1), b, atol=1e-6)]
        assert fits
        shifts += fits[:1]
    assert len(set(shifts)) > 4


def test_the_gradient_passes():
    augment = make_augmentation(KEY, NUM, 0.5, True)
    grads = jax.grad(lambda images: (augment(images) ** 2).sum())(IMAGES)
    assert np.isfinite(grads).all() and (np.abs(grads) > 1e-3).mean() > 0.9


@pytest.mark.parametrize("strength", [-0.1, 1.5])
def test_a_strength_that_cannot_be(strength):
    with pytest.raises(UserError, match="config.losses.augment"):
        make_augmentation(KEY, NUM, strength, True)
