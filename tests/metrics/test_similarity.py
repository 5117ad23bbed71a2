import numpy as np
import pytest

from retroguide_jax.metrics import similarity

C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


@pytest.mark.parametrize("name", ["ssim_rgb", "ssim_skimage", "ssim_skimage_luma"])
def test_a_large_even_image_is_not_rounded_away(name):
    grey = np.full((1, 256, 1024, 3), 60, np.uint8)
    # Even images have no variance: what is left is the luminance.
    expected = (2 * 60 * 90 + C1) / (60**2 + 90**2 + C1)
    scores = getattr(similarity, name)(grey, grey + np.uint8(30))
    np.testing.assert_allclose(scores, [expected], atol=1e-6)


def test_a_checkerboard_and_its_negative_are_opposites():
    board = 255 * (np.indices((64, 64)).sum(axis=0) % 2)
    board = np.repeat(board[None, ..., None], 3, axis=-1).astype(np.uint8)
    # A sample variance of 49 values, 24 of one kind and 25 of the other.
    variance = 255**2 * 24 * 25 / 49 / 48
    low, high = 255 * 24 / 49, 255 * 25 / 49
    luminance = (2 * low * high + C1) / (low**2 + high**2 + C1)
    expected = luminance * (C2 - 2 * variance) / (C2 + 2 * variance)
    scores = similarity.ssim_skimage(board, 255 - board)
    np.testing.assert_allclose(scores, [expected], atol=1e-6)
    assert expected < -0.99


def test_black_around_the_image_lifts_luas_score():
    noise = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    inside = similarity.ssim_rgb(noise, noise[::-1])
    assert np.all(np.asarray(similarity.ssim_lua(noise, noise[::-1]) - inside) > 0.2)
    # One pixel is touched by 11 x 11 windows.
    assert similarity.ssim_lua(noise[:, :1, :1], noise[:, :1, :1]).tolist() == [1, 1]
