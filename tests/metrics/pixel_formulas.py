"""The pixel metrics again, by their formulas in NumPy's float64, for tests to compare with.

Each takes one pair, uint8 [H, W, 3], and returns a float.
"""

import numpy as np
from scipy.ndimage import convolve, uniform_filter
from scipy.signal import convolve2d

LUMA = np.array([0.299, 0.587, 0.114])


def mse(p, t):
    return np.mean((p / 255 - t / 255) ** 2)


def psnr(p, t):
    return -10 * np.log10(mse(p, t))


def psnr_legacy(p, t):
    return 10 * np.log10(255**2 / max(128**2 * mse(p, t), 1e-4))


def rmse(p, t):
    return 255 * np.sqrt(mse(p, t))


def psnr_nosky(p, t, sky):
    return psnr(p[~sky], t[~sky])


def ssim_rgb_map(p, t):
    return np.stack([_ssim_gaussian(p[..., c], t[..., c], "valid") for c in range(3)], -1)


def ssim_rgb(p, t):
    return np.mean(ssim_rgb_map(p, t))


def ssim_rgb_nosky(p, t, sky):
    return np.mean(ssim_rgb_map(p, t)[~sky[5:-5, 5:-5]])


def ssim_lua(p, t):
    return np.mean(_ssim_gaussian(p @ LUMA, t @ LUMA, "full"))


def ssim_skimage(p, t):
    return np.mean([_ssim_uniform(p[..., c] / 255, t[..., c] / 255) for c in range(3)])


def ssim_skimage_luma(p, t):
    return _ssim_uniform(p / 255 @ LUMA, t / 255 @ LUMA)


def sd_lua(p, t):
    def gradients(image):  # with the neighbour before, off the border
        centre = image[1:-1, 1:-1] / 255
        before = image[1:-1, :-2] / 255, image[:-2, 1:-1] / 255
        return np.abs(centre - before[0]), np.abs(centre - before[1])

    (px, py), (tx, ty) = gradients(p), gradients(t)
    error = np.sum(np.abs(px - tx) + np.abs(py - ty)) / p.size
    return 10 * np.log10(255**2 / max(128**2 * error, 1e-4))


def sd_shi(p, t):
    (px, py), (tx, ty) = _forward(p), _forward(t)
    return 10 * np.log10(255**2 / (64 * np.mean(np.abs(px - tx) + np.abs(py - ty))))


def sd_s2d(p, t):
    sharp_p, sharp_t = (sum(np.abs(g) / 255 for g in _forward(image)) for image in (p, t))
    return 10 * np.log10(1 / np.mean(np.abs(sharp_t - sharp_p)))


def sd_sky(p, t):
    kernel = np.array([[1, 2, 1], [0, 0, 0], [-1, -2, -1]]) / 4
    grey = [(image @ np.array([9797, 19234, 3737]) // 2**15) / 255 for image in (p, t)]
    error = sum(
        np.mean(np.abs(convolve(grey[0], k) / 4 - convolve(grey[1], k) / 4))
        for k in (kernel, kernel.T)
    )
    return 10 * np.log10(1 / max(error, 1e-4))


def seam_error(image):
    columns = np.moveaxis(image.astype(np.float64), 1, 0)
    return np.mean(np.abs(columns[0] - columns[-1])) / np.mean(np.abs(np.diff(columns, axis=0)))


def sharpness(image):
    luma = image / 255 @ LUMA
    return np.mean(np.hypot(np.diff(luma, axis=1)[:-1], np.diff(luma, axis=0)[:, :-1]))


def _forward(image):
    centre = image[1:-1, 1:-1].astype(np.float64)
    return image[1:-1, 2:] - centre, image[2:, 1:-1] - centre


def _ssim_gaussian(x, y, mode):
    """The map, of values in [0, 255]."""
    weights = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    window = np.outer(weights, weights) / np.sum(weights) ** 2
    x, y = x.astype(np.float64), y.astype(np.float64)
    return _combine(lambda plane: convolve2d(plane, window, mode=mode), x, y, 255, 1)


def _ssim_uniform(x, y):
    similarity = _combine(lambda plane: uniform_filter(plane, 7), x, y, 1, 49 / 48)
    return np.mean(similarity[3:-3, 3:-3])


def _combine(average_fn, x, y, peak, correction):
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    mx, my = average_fn(x), average_fn(y)
    vx, vy, cov = (
        correction * (average_fn(a * b) - average_fn(a) * average_fn(b))
        for a, b in ((x, x), (y, y), (x, y))
    )
    return (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
