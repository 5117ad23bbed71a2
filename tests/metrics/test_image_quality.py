import jax
import numpy as np
import pixel_formulas
import pytest
from jax.sharding import AxisType, Mesh, PartitionSpec

from retroguide_jax.errors import UserError
from retroguide_jax.evaluation import registry
from retroguide_jax.metrics.image_quality import FUNCTIONS

# Integer images with known scores, from an independent NumPy restatement of the formulas.
ROW, COLUMN, CHANNEL = np.meshgrid(np.arange(32), np.arange(64), np.arange(3), indexing="ij")
REAL = (7 * ROW + 3 * COLUMN + 50 * CHANNEL + (ROW * COLUMN) % 17) % 256
FAKE = (5 * ROW + 4 * COLUMN + 45 * CHANNEL + (ROW * ROW + COLUMN) % 23) % 256
REAL, FAKE = REAL.astype(np.uint8), FAKE.astype(np.uint8)
GOLDEN = {
    "psnr": 10.505378,
    "psnr_legacy": 16.491983,
    "rmse": 76.080132,
    "sd_lua": 14.945129,
    "sd_shi": 13.754948,
    "sd_s2d": 8.856296,
    # With scikit-image's sobel_h and sobel_v and OpenCV's grey of the PNG.
    "sd_sky": 14.188507,
    "ssim_rgb": 0.502790,
    "ssim_lua": 0.624654,
    "ssim_skimage": 0.541867,
    "ssim_skimage_luma": 0.366854,
}
PAIR, MASKED = tuple(GOLDEN), ("psnr_nosky", "ssim_rgb_nosky")
SKY = ROW[..., 0] < 12 + COLUMN[..., 0] % 7


def _make_pairs():
    """Generated and target images of every degree of similarity, uint8 [9, 32, 64, 3] each."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (2, *REAL.shape), dtype=np.uint8)
    smooth = np.uint8(127 + 100 * np.sin(COLUMN / 9) * np.cos(ROW / 11) + 5 * CHANNEL)
    bright = np.full_like(REAL, 250)
    one_level = noise[0].copy()
    one_level[16, 9, 0] ^= 1
    dotted = bright.copy()
    dotted[::7, ::5] += 3
    pairs = [
        (FAKE, REAL),
        (noise[0], noise[1]),
        (one_level, noise[0]),
        (smooth + rng.integers(0, 2, REAL.shape, dtype=np.uint8), smooth),
        (smooth + rng.integers(0, 9, REAL.shape, dtype=np.uint8), smooth),
        (smooth + np.uint8(10) * (COLUMN > 5).astype(np.uint8), smooth),
        (np.roll(smooth, 5, axis=1), smooth),
        (dotted, bright),
        (np.where(COLUMN == 20, 1, 0).astype(np.uint8), np.full_like(REAL, 255)),
    ]
    return tuple(np.stack(images) for images in zip(*pairs, strict=True))


GENERATED, TARGET = _make_pairs()
SKIES = np.broadcast_to(SKY, TARGET.shape[:3])


def _arguments(name):
    if name in PAIR:
        return GENERATED, TARGET
    return (GENERATED, TARGET, SKIES) if name in MASKED else (GENERATED,)


def test_every_pixel_metric_of_the_registry_has_its_function():
    assert sorted(FUNCTIONS) == sorted(
        registry.list_group(tuple(registry.METRICS), "pair", "masked", "alone")
    )


def test_golden_images_are_the_agreed_ones():
    assert (int(REAL.sum()), int(FAKE.sum())) == (785_882, 782_034)


@pytest.mark.parametrize("name", PAIR)
def test_golden_value(name):
    np.testing.assert_allclose(FUNCTIONS[name](FAKE[None], REAL[None]), [GOLDEN[name]], atol=1e-5)


@pytest.mark.parametrize("name", [*PAIR, *MASKED])
def test_float32_agrees_with_float64(name):
    formula = getattr(pixel_formulas, name)
    with np.errstate(divide="ignore"):
        expected = np.array([formula(*row) for row in zip(*_arguments(name), strict=True)])
    scores = np.asarray(FUNCTIONS[name](*_arguments(name)))
    assert scores.dtype == np.float32
    # A float32 has seven digits: 100 dB are known to 1e-5.
    np.testing.assert_allclose(scores, expected, rtol=2e-7, atol=1e-6)


@pytest.mark.parametrize("name", list(FUNCTIONS))
def test_no_image_matters_to_another(name):
    arguments = _arguments(name)
    together = np.asarray(FUNCTIONS[name](*arguments))
    alone = [np.asarray(FUNCTIONS[name](*(a[k : k + 1] for a in arguments))) for k in range(9)]
    np.testing.assert_array_equal(together, np.concatenate(alone))


@pytest.mark.parametrize("check_vma", [False, True])
def test_devices_agree_bit_by_bit(check_vma):
    arguments = [array[:8] for array in (GENERATED, TARGET, SKIES)]
    mesh = Mesh(np.array(jax.devices()[:8]), ("rows",), axis_types=(AxisType.Auto,))
    rows = PartitionSpec("rows")

    def score(generated, target, sky):
        of_group = {3: (generated, target, sky), 2: (generated, target), 1: (generated,)}
        return {name: fn(*of_group[len(_arguments(name))]) for name, fn in FUNCTIONS.items()}

    spread = jax.shard_map(score, mesh=mesh, in_specs=rows, out_specs=rows, check_vma=check_vma)
    on_one = {name: fn(*arguments[: len(_arguments(name))]) for name, fn in FUNCTIONS.items()}
    for name, scores in jax.jit(spread)(*arguments).items():
        np.testing.assert_array_equal(scores, on_one[name], err_msg=name)


@pytest.mark.parametrize(
    "name, best",
    [(name, 1) for name in PAIR if name.startswith("ssim")]
    + [("psnr", np.inf), ("sd_shi", np.inf), ("sd_s2d", np.inf), ("rmse", 0), ("sd_sky", 40)]
    + [(name, 10 * np.log10(255**2 / 1e-4)) for name in ("psnr_legacy", "sd_lua")],
)
def test_identical_images(name, best):
    np.testing.assert_allclose(FUNCTIONS[name](TARGET, TARGET), np.full(9, best), rtol=2e-7)


@pytest.mark.parametrize("name", MASKED)
def test_what_the_sky_shows_does_not_matter(name):
    # The window reaches five pixels into the sky.
    repainted = np.where((ROW < 7)[None], 255 - GENERATED, GENERATED)
    scores = FUNCTIONS[name](GENERATED, TARGET, SKIES)
    np.testing.assert_array_equal(FUNCTIONS[name](repainted, TARGET, SKIES), scores)
    no_sky = np.zeros_like(SKIES)
    whole = FUNCTIONS[name.removesuffix("_nosky")](GENERATED, TARGET)
    np.testing.assert_allclose(FUNCTIONS[name](GENERATED, TARGET, no_sky), whole, atol=1e-6)


@pytest.mark.parametrize("name", MASKED)
def test_nothing_is_said_of_less_than_one_percent(name):
    sky = np.ones((2, 20, 20), bool)
    sky[0, 10, 8:11] = False
    sky[1, 10, 8:12] = False
    scores = FUNCTIONS[name](*(np.stack([image[:20, :20]] * 2) for image in (FAKE, REAL)), sky)
    assert np.isnan(scores[0]) and np.isfinite(scores[1])


def test_no_window_is_centred_on_the_border():
    sky = np.ones((1, 32, 64), bool)
    sky[:, 28:] = False
    assert np.isnan(FUNCTIONS["ssim_rgb_nosky"](FAKE[None], REAL[None], sky)[0])
    assert np.isfinite(FUNCTIONS["psnr_nosky"](FAKE[None], REAL[None], sky)[0])


@pytest.mark.parametrize(
    "name, least",
    [("ssim_rgb", 11), ("ssim_skimage", 7), ("ssim_skimage_luma", 7), ("ssim_rgb_nosky", 11)]
    + [(name, 3) for name in ("sd_lua", "sd_shi", "sd_s2d")]
    + [(name, 2) for name in ("sharpness_ratio", "seam_error")]
    + [("broken_share", 16)]
    + [(name, 1) for name in ("psnr", "psnr_legacy", "rmse", "psnr_nosky", "ssim_lua", "sd_sky")],
)
def test_the_smallest_image(name, least):
    arguments = [array[:1, :least, :least] for array in _arguments(name)]
    assert FUNCTIONS[name](*arguments).shape[:1] == (1,)
    if least > 1:
        arguments = [array[:, :, : least - 1] for array in arguments]
        message = f"at least {least} x {least} pixels, got {least} x {least - 1}"
        with pytest.raises(UserError, match=message):
            FUNCTIONS[name](*arguments)


@pytest.mark.parametrize("name", PAIR)
def test_images_of_different_sizes_are_refused(name):
    with pytest.raises(UserError, match=r"got 32 x 64 and 32 x 60; resize"):
        FUNCTIONS[name](GENERATED, TARGET[:, :, :60])
    with pytest.raises(ValueError, match="takes uint8"):
        FUNCTIONS[name](GENERATED / 255, TARGET / 255)


@pytest.mark.parametrize("name", MASKED)
def test_a_mask_of_numbers_is_refused(name):
    with pytest.raises(ValueError, match="takes a mask bool"):
        FUNCTIONS[name](GENERATED, TARGET, SKIES.astype(np.uint8))
