import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from retroguide_jax.errors import UserError
from retroguide_jax.evaluation import image_quality

# Integer images with known scores, from an independent NumPy restatement of the formulas.
ROW, COLUMN, CHANNEL = np.meshgrid(np.arange(32), np.arange(64), np.arange(3), indexing="ij")
REAL = (7 * ROW + 3 * COLUMN + 50 * CHANNEL + (ROW * COLUMN) % 17) % 256
FAKE = (5 * ROW + 4 * COLUMN + 45 * CHANNEL + (ROW * ROW + COLUMN) % 23) % 256
REAL, FAKE = REAL.astype(np.uint8)[None], FAKE.astype(np.uint8)[None]


def test_golden_images_are_the_agreed_ones():
    assert (int(REAL.sum()), int(FAKE.sum())) == (785_882, 782_034)


def test_psnr_golden_value():
    np.testing.assert_allclose(image_quality.psnr(FAKE, REAL), [10.505378], atol=1e-5)


def test_ssim_golden_value():
    np.testing.assert_allclose(image_quality.ssim_rgb(FAKE, REAL), [0.502790], atol=1e-5)


def test_scores_are_per_image():
    generated = np.concatenate([FAKE, REAL, FAKE])
    target = np.concatenate([REAL, REAL, FAKE])
    np.testing.assert_allclose(image_quality.psnr(generated, target), [10.505378, np.inf, np.inf])
    ssim = image_quality.ssim_rgb(generated, target)
    np.testing.assert_allclose(ssim, [0.502790, 1, 1], atol=1e-5)


def test_psnr_of_one_grey_level():
    dark, light = np.zeros((1, 4, 4, 3), np.uint8), np.ones((1, 4, 4, 3), np.uint8)
    np.testing.assert_allclose(image_quality.psnr(dark, light), [20 * np.log10(255)], rtol=1e-6)


def test_ssim_refuses_images_smaller_than_its_window():
    small = np.zeros((1, 10, 64, 3), np.uint8)
    with pytest.raises(UserError, match="at least 11 x 11"):
        image_quality.ssim_rgb(small, small)


def test_sharpness_of_a_ramp_is_its_slope():
    ramp = np.broadcast_to(3 * COLUMN[:20, :20, :1] + 4 * ROW[:20, :20, :1], (1, 20, 20, 3))
    sharpness = image_quality.sharpness(ramp.astype(np.uint8))
    np.testing.assert_allclose(sharpness, [5 / 255], rtol=1e-5)


def test_blur_is_less_sharp():
    noise = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    blur = gaussian_filter(noise, (0, 2, 2, 0))
    assert np.all(np.asarray(image_quality.sharpness(blur) / image_quality.sharpness(noise)) < 0.3)
    assert np.all(np.asarray(image_quality.sharpness(np.full_like(noise, 90))) == 0)
