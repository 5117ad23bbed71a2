"""Joint augmentation of an aerial image and its panorama that preserves their alignment.

Convention for both views: the aerial's top row is north and its right column east; the panorama's
centre column looks north, and azimuth increases clockwise to the right (east at 3W/4).
"""

import grain
import numpy as np


def rotate_pair(aerial: np.ndarray, ground: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Rotates both views by k quarter turns counter-clockwise, as seen from above.

    East becomes north, so the panorama's columns move left by k W/4 (the joint rotation of
    Sample4Geo, Deuser et al. 2023): `rot90(aerial, k)` with `roll(ground, -k W / 4)`.

    Args:
      aerial: `[S, S, C]`, square.
      ground: `[H, W, C]`, a full 360-degree panorama, W a multiple of 4.
      k: quarter turns; any integer.

    Returns:
      The rotated pair, same shapes and types.

    Raises:
      ValueError: the aerial is not square, or W is not a multiple of 4.
    """
    if aerial.shape[0] != aerial.shape[1] or ground.shape[1] % 4:
        raise ValueError(
            f"a quarter turn needs a square aerial and a panorama width divisible by 4, "
            f"got {aerial.shape} and {ground.shape}"
        )
    shift = -(k % 4) * (ground.shape[1] // 4)
    return np.rot90(aerial, k), np.roll(ground, shift, axis=1)


def mirror_pair(aerial: np.ndarray, ground: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mirrors the pair, swapping east and west: both images are flipped left to right.

    Exact for panoramas (azimuth t becomes -t, and column centres map onto column centres) and for
    ordinary photographs.

    Args:
      aerial: `[H, W, C]`.
      ground: `[H', W', C]`.

    Returns:
      The mirrored pair, same shapes and types.
    """
    return aerial[:, ::-1], ground[:, ::-1]


class AugmentPair(grain.transforms.RandomMap):
    """Grain transform: random mirroring and, where allowed, a random quarter turn.

    Args:
      rotate: also rotate by a random quarter turn; only for square aerials with 360-degree
        panoramas.
    """

    def __init__(self, rotate: bool):
        self._rotate = rotate

    def random_map(self, element: dict, rng: np.random.Generator) -> dict:
        """Returns the element with "aerial" and "ground" rotated and mirrored together."""
        aerial, ground = element["aerial"], element["ground"]
        if self._rotate:
            aerial, ground = rotate_pair(aerial, ground, int(rng.integers(4)))
        if rng.integers(2):
            aerial, ground = mirror_pair(aerial, ground)
        return element | {"aerial": aerial, "ground": ground}
