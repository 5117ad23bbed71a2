import numpy as np

from retroguide_jax.models.folding import fold, unfold

IMAGES = np.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3)


def test_a_patch_is_a_position():
    folded = fold(IMAGES, 2)
    assert folded.shape == (2, 2, 3, 12)
    np.testing.assert_array_equal(folded[1, 0, 2], IMAGES[1, :2, 4:].reshape(-1))


def test_unfold_is_the_inverse():
    np.testing.assert_array_equal(unfold(fold(IMAGES, 2), 2), IMAGES)
    np.testing.assert_array_equal(unfold(IMAGES, 1), IMAGES)
