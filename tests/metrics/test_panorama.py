import numpy as np
import pixel_formulas

from retroguide_jax.metrics.panorama import seam_error

COLUMN = np.broadcast_to(np.arange(60)[:, None], (1, 16, 60, 3))


def test_a_closed_panorama_has_no_seam():
    # A triangle wave: every step is 3, that from the last column to the first too.
    closed = (3 * np.minimum(COLUMN, 60 - COLUMN)).astype(np.uint8)
    np.testing.assert_array_equal(seam_error(closed), [1])


def test_an_open_panorama_has_one():
    np.testing.assert_array_equal(seam_error((2 * COLUMN).astype(np.uint8)), [59])


def test_agrees_with_float64_and_is_no_number_for_a_flat_image():
    images = np.random.default_rng(0).integers(0, 256, (3, 20, 30, 3), dtype=np.uint8)
    expected = [pixel_formulas.seam_error(image) for image in images]
    np.testing.assert_allclose(seam_error(images), expected, rtol=1e-6)
    assert np.all(np.isnan(seam_error(np.full_like(images, 7))))
