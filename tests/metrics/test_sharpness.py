import numpy as np
import pixel_formulas
from scipy.ndimage import gaussian_filter

from retroguide_jax.metrics.sharpness import sd_lua, sd_s2d, sd_shi, sharpness

NOISE = np.random.default_rng(0).integers(0, 256, (4, 32, 48, 3), dtype=np.uint8)
ROW, COLUMN = np.mgrid[:20, :20]


def test_sharpness_of_a_ramp_is_its_slope():
    ramp = np.broadcast_to((3 * COLUMN + 4 * ROW)[None, ..., None], (1, 20, 20, 3))
    np.testing.assert_allclose(sharpness(ramp.astype(np.uint8)), [5 / 255], rtol=1e-5)


def test_sharpness_agrees_with_float64():
    expected = [pixel_formulas.sharpness(image) for image in NOISE]
    np.testing.assert_allclose(sharpness(NOISE), expected, rtol=1e-6)


def test_blur_is_less_sharp():
    blur = gaussian_filter(NOISE, (0, 2, 2, 0))
    assert np.all(np.asarray(sharpness(blur) / sharpness(NOISE)) < 0.3)
    assert np.all(np.asarray(sharpness(np.full_like(NOISE, 90))) < 1e-6)


def test_differences_are_ordered_as_the_triangle_inequality_orders_them():
    generated, target = NOISE[:2], NOISE[2:]
    # Brought to one scale; Lua's border counts as equal, and looks backward.
    lua = sd_lua(generated, target) - 20 * np.log10(255 / 128)
    lua += 10 * np.log10(30 * 46 / (32 * 48))
    shi = sd_shi(generated, target) - 10 * np.log10(255 / 64)
    s2d = sd_s2d(generated, target)
    assert np.all(np.asarray(s2d) > np.asarray(lua)) and np.all(np.asarray(lua) > np.asarray(shi))


def test_signs_matter_to_shi_alone():
    rising = np.broadcast_to((100 + 2 * COLUMN)[None, ..., None], (1, 20, 20, 3)).astype(np.uint8)
    falling = rising[:, :, ::-1]
    assert np.isinf(sd_s2d(rising, falling)[0]) and sd_lua(rising, falling)[0] > 88
    # |2 - -2| along the rows, nothing down.
    expected = 10 * np.log10(255**2 / (64 * 4))
    np.testing.assert_allclose(sd_shi(rising, falling), [expected], rtol=1e-6)
