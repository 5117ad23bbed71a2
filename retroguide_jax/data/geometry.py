"""Coordinates of the polar transform of retrieval papers; for analysis, not used in training."""

import numpy as np


def polar_coordinates(size: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Source coordinates of each pixel of a polar-transformed aerial.

    The formula of SAFA (Shi et al., Spatial-Aware Feature Aggregation, NeurIPS 2019):

        row = S/2 + S/2/H (H - 1 - i) cos(2 pi j / W)
        col = S/2 - S/2/H (H - 1 - i) sin(2 pi j / W)

    Column 0 looks south, W/4 west, W/2 north, 3W/4 east; the last row is the aerial's centre.

    Args:
      size: S, side of the square aerial in pixels (750 for CVUSA, 1200 for CVACT).
      height, width: H and W of the transformed image in pixels.

    Returns:
      (rows, cols), float64 [H, W], in pixels of the aerial.

    Raises:
      ValueError: a size is not positive.
    """
    if min(size, height, width) < 1:
        raise ValueError(f"sizes must be positive, not {size}, {height}, {width}")
    radius = size / 2 / height * (height - 1 - np.arange(height, dtype=np.float64))[:, None]
    angle = 2 * np.pi * np.arange(width, dtype=np.float64) / width
    return size / 2 + radius * np.cos(angle), size / 2 - radius * np.sin(angle)
