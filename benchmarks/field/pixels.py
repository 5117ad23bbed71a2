"""Pixel metrics against golden values, formulas, scikit-image and torchmetrics."""

from collections.abc import Callable, Iterator

import numpy as np

from field import tools
from field.lines import Line, Subject, compare, score_pixels

# Scores of the images of `_make_golden_pair`, by an independent implementation of the formulas.
_GOLDEN = {
    "psnr": 10.505378,
    "psnr_legacy": 16.491983,
    "rmse": 76.080132,
    "sd_lua": 14.945129,
    "sd_shi": 13.754948,
    "sd_s2d": 8.856296,
    "ssim_rgb": 0.502790,
    "ssim_lua": 0.624654,
    "ssim_skimage": 0.541867,
    "ssim_skimage_luma": 0.366854,
}
_GOLDEN_KL = 1.071140


def compare_golden(subject: Subject) -> Iterator[Line]:
    """Golden values on two small images of integers, the same on every machine."""
    from retroguide_jax.metrics import classification

    del subject
    for metric, value in _GOLDEN.items():
        yield compare(metric, "golden value", score_pixels(metric, *_make_golden_pair()), value)
    generated = [[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]]
    real = [[0.5, 0.3, 0.2], [0.2, 0.2, 0.6]]
    score = classification.kl_score(classification.compute_divergences(generated, real)).value
    yield compare("kl_score", "golden value", score, _GOLDEN_KL)


def compare_formulas(subject: Subject) -> Iterator[Line]:
    """The closed forms in float64, from tests/metrics/pixel_formulas.py."""
    import pixel_formulas

    for metric in (*_GOLDEN, "sd_sky"):
        formula_fn = getattr(pixel_formulas, metric)
        expected = [formula_fn(*pair) for pair in zip(*subject.pair, strict=True)]
        yield compare(metric, "formula in NumPy, float64", subject.score(metric), expected)


def compare_skimage(subject: Subject) -> Iterator[Line]:
    """PSNR and three SSIMs."""
    from skimage.color import rgb2yuv
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    name = tools.describe("scikit-image")

    def score_pairs(fn: Callable, **options) -> list[float]:
        return [fn(target, image, **options) for image, target in zip(*subject.pair, strict=True)]

    def score_luma(target: np.ndarray, image: np.ndarray) -> float:
        luma = (rgb2yuv(side)[..., 0] for side in (target, image))
        return structural_similarity(*luma, data_range=1)

    ours, theirs = subject.score("psnr"), score_pairs(peak_signal_noise_ratio)
    yield compare("psnr", name, ours, theirs)
    theirs = score_pairs(structural_similarity, channel_axis=-1)
    yield compare("ssim_skimage", f"{name}, RGB", subject.score("ssim_skimage"), theirs)
    ours, theirs = subject.score("ssim_skimage_luma"), score_pairs(score_luma)
    yield compare("ssim_skimage_luma", f"{name}, Y of rgb2yuv", ours, theirs)
    gaussian = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    theirs = score_pairs(structural_similarity, channel_axis=-1, **gaussian)
    yield compare("ssim_rgb", f"{name}, Gaussian", subject.score("ssim_rgb"), theirs)


def compare_torchmetrics(subject: Subject) -> Iterator[Line]:
    """PSNR and the Gaussian SSIM."""
    from torchmetrics.functional import image

    name = tools.describe("torchmetrics")
    tensors = [tools.to_tensor(side) for side in subject.pair]
    options = {"data_range": 255.0, "reduction": "none"}
    floats = [tensor.float() for tensor in tensors]
    theirs = image.peak_signal_noise_ratio(*floats, dim=(1, 2, 3), **options)
    yield compare("psnr", name, subject.score("psnr"), theirs)
    theirs = image.structural_similarity_index_measure(*floats, **options)
    ours = subject.score("ssim_rgb")
    yield compare("ssim_rgb", f"{name}, as it is: on a mirrored border too", ours, theirs)
    doubles = [tensor.double() for tensor in tensors]
    _, similarity = image.structural_similarity_index_measure(
        *doubles, return_full_image=True, **options
    )
    theirs = similarity[..., 5:-5, 5:-5].mean(dim=(1, 2, 3))
    yield compare("ssim_rgb", f"{name}, inside only, float64", ours, theirs)


def _make_golden_pair() -> tuple[np.ndarray, np.ndarray]:
    """(generated, reference), uint8 [1, 32, 64, 3]."""
    i, j, c = np.indices((32, 64, 3))
    reference = (7 * i + 3 * j + 50 * c + i * j % 17) % 256
    generated = (5 * i + 4 * j + 45 * c + (i * i + j) % 23) % 256
    return generated[None].astype(np.uint8), reference[None].astype(np.uint8)
