import numpy as np
import pytest

from retroguide_jax.errors import UserError
from retroguide_jax.metrics.pixel_errors import psnr, rmse
from retroguide_jax.metrics.pixels import check_images, compute_luma, has_enough, sum_exactly


def test_a_sum_too_large_for_32_bits_is_exact_to_a_float():
    values = np.random.default_rng(0).integers(0, 255**2, (2, 300, 700, 3), dtype=np.int32)
    values[0] = 255**2
    expected = values.sum(axis=(1, 2, 3), dtype=np.int64)
    assert np.all(expected > 2**33)
    np.testing.assert_allclose(sum_exactly(values), expected, rtol=1.2e-7)


def test_one_grey_level_in_a_large_image():
    dark = np.zeros((1, 1024, 2048, 3), np.uint8)
    dotted = dark.copy()
    dotted[0, 700, 1300, 1] = 1
    np.testing.assert_allclose(psnr(dotted, dark), [10 * np.log10(255**2 * dark.size)], rtol=2e-7)
    np.testing.assert_allclose(rmse(255 - dark, dark), [255], rtol=1e-7)


def test_the_widest_row_fits():
    dark = np.zeros((1, 1, 22_017, 3), np.uint8)
    np.testing.assert_allclose(rmse(255 - dark, dark), [255], rtol=1e-7)
    with pytest.raises(UserError, match="at most 65536 x 22017 pixels, got 1 x 22018"):
        check_images("rmse", np.zeros((1, 1, 22_018, 3), np.uint8))


def test_luma_weights():
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]], np.uint8)
    expected = [[76.245, 149.685, 29.07, 255]]
    np.testing.assert_allclose(compute_luma(colours), expected, rtol=1e-6)


@pytest.mark.parametrize("height, width", [(20, 20), (13, 17), (7, 100), (1, 1)])
def test_one_percent_is_enough(height, width):
    needed = int(np.ceil(height * width / 100))
    mask = np.zeros((2, height * width), bool)
    mask[0, :needed] = True
    mask[1, : needed - 1] = True
    assert has_enough(mask.reshape(2, height, width)).tolist() == [True, False]
