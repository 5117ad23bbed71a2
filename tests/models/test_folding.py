import numpy as np

from retroguide_jax.models import folding
from retroguide_jax.models.folding import fold, fold_images, unfold, unfold_images

IMAGES = np.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3)


def test_a_patch_is_a_position():
    folded = fold(IMAGES, 2)
    assert folded.shape == (2, 2, 3, 12)
    np.testing.assert_array_equal(folded[1, 0, 2], IMAGES[1, :2, 4:].reshape(-1))


def test_unfold_is_the_inverse():
    np.testing.assert_array_equal(unfold(fold(IMAGES, 2), 2), IMAGES)
    np.testing.assert_array_equal(unfold(IMAGES, 1), IMAGES)


def test_tpus_fold_by_convolutions_with_the_same_result():
    images = IMAGES.astype(np.float32)
    folded = fold(images, 2)
    np.testing.assert_array_equal(folding._fold_by_convolution(images, 2), folded)
    np.testing.assert_array_equal(folding._unfold_by_convolution(folded, 2), images)
    np.testing.assert_array_equal(unfold_images(fold_images(images, 2), 2), images)
