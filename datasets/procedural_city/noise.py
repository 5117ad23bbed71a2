"""A periodic noise texture, used for the irregularity of clouds, grass and asphalt."""

import functools

import numpy as np


@functools.lru_cache(maxsize=8)
def periodic_noise(size: int, exponent: float) -> np.ndarray:
    """A fixed Gaussian field [size, size] float32 that tiles, with mean 0 and deviation 1.

    Its amplitude spectrum falls as frequency ** -exponent (0 is white noise, 2 is cloud-like).
    """
    rng = np.random.default_rng(20240229)
    frequency = np.fft.fftfreq(size)
    radius = np.hypot(frequency[:, None], frequency[None, :])
    radius[0, 0] = 1.0
    spectrum = np.fft.fft2(rng.standard_normal((size, size))) * radius**-exponent
    spectrum[0, 0] = 0.0
    field = np.fft.ifft2(spectrum).real
    return (field / field.std()).astype(np.float32)
