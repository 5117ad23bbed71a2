"""Weights and images from names and shapes alone, the same here and in make_golden.py.

NumPy's RandomState draws the same numbers in all its releases.
"""

import zlib

import numpy as np


def make_array(name, shape):
    """A float32 array for a PyTorch state dict; activations stay of order 1 through the network."""
    draw = np.random.RandomState(zlib.crc32(name.encode()))
    if name.startswith("lin"):
        return draw.uniform(0, 2 / shape[1], shape).astype(np.float32)
    if name.endswith("running_var"):
        return draw.uniform(0.5, 1.5, shape).astype(np.float32)
    if name.endswith("bn.weight"):
        return draw.uniform(0.8, 1.2, shape).astype(np.float32)
    if len(shape) == 1:
        return draw.normal(0, 0.1, shape).astype(np.float32)
    # He et al. 2015.
    return draw.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape).astype(np.float32)


def make_state(shapes):
    return {name: make_array(name, tuple(shape)) for name, shape in shapes.items()}


def make_images(num, height, width, seed=0):
    """uint8 [num, height, width, 3]: waves of several lengths with noise, all different."""
    draw = np.random.RandomState(seed)
    y, x = np.mgrid[:height, :width]
    images = np.empty((num, height, width, 3))
    for image in images:
        for channel in range(3):
            waves = draw.uniform(-0.4, 0.4, (4, 2))
            phase = (waves[:, 0, None, None] * y + waves[:, 1, None, None] * x) * draw.uniform(0, 2)
            image[..., channel] = np.sin(phase + channel).mean(0)
    noisy = 128 + 160 * images + draw.normal(0, 12, images.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)
