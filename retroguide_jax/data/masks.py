"""Decodes images whose samples are codes, not brightness: sky masks and class labels."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from retroguide_jax.data import images, samples
from retroguide_jax.errors import UserError

_SLACK = 32  # levels by which JPEG or smoothed edges may shift a mask's 0 and 255
_MOST_BETWEEN = 0.05


def decode_mask(
    source: bytes, size: tuple[int, int], *, formats: Sequence[str] = images.FORMATS
) -> np.ndarray:
    """Decodes a 0/255 mask; nearest-neighbour, so that a resized mask stays a mask.

    Args:
      source: the encoded bytes of a PNG (or JPEG).
      size: (height, width) in pixels of the result.
      formats: Pillow's names of the accepted formats.

    Returns:
      bool `[height, width]`.

    Raises:
      UnreadableImageError: the bytes are not a complete image, or hold other codes than 0 and 255
        (such as 0 and 1, or class labels), which a threshold would turn into a wrong mask.
    """
    with images.open_image(source, "mask", formats) as image:
        mask = _read_codes(image, tolerance=_SLACK)
        codes = np.flatnonzero(np.bincount(mask.ravel(), minlength=256))
        between = np.mean((mask >= _SLACK) & (mask < 256 - _SLACK))
        if between > _MOST_BETWEEN or 0 < codes.max() < 256 - _SLACK:
            listed = ", ".join(map(str, codes[:6])) + (" ..." if len(codes) > 6 else "")
            raise samples.LostPictureError(
                f"a mask of the codes {listed}, not of 0 and 255",
                "write 255 where the mask is true and 0 elsewhere",
            )
    if mask.shape != tuple(size):
        resized = Image.fromarray(mask).resize((size[1], size[0]), Image.Resampling.NEAREST)
        mask = np.asarray(resized)
    return mask > 127


def decode_labels(source: bytes, size: tuple[int, int]) -> np.ndarray:
    """Decodes class labels, which must already have `size`: labels cannot be interpolated.

    Args:
      source: the encoded bytes of a PNG: one label per pixel, or the index of a palette.
      size: (height, width) in pixels.

    Returns:
      uint8 `[height, width]`.

    Raises:
      UserError: the bytes are not a complete PNG, hold colours instead of labels, or have another
        size.
    """
    with images.open_image(source, "labels") as image:
        labels = np.array(image) if image.mode == "P" else _read_codes(image, tolerance=0)
    if labels.shape != tuple(size):
        raise UserError(
            f"labels are stored at {labels.shape}, config.data.ground_size is {tuple(size)}; "
            "evaluate at the size the data set was rendered at"
        )
    return labels


def _read_codes(image: Image.Image, tolerance: int) -> np.ndarray:
    """uint8 `[H, W]` from an image not loaded yet, whose channels differ by at most `tolerance`."""
    deep = samples.is_deep(image)
    image.load()
    if image.mode[0] in "IF":
        codes = np.asarray(image)
        if codes.max() == 65535:
            codes = codes // 257  # 0 and 65535 are a 0/255 mask in 16 bits
        if not (codes.min() >= 0 and codes.max() <= 255):
            raise samples.LostPictureError(
                f"codes from {codes.min():g} to {codes.max():g}", "write codes of 0 to 255"
            )
        return codes.astype(np.uint8)
    rgb = np.asarray(samples.to_rgb(image, deep=deep)[0])
    if np.ptp(rgb.astype(np.int16), axis=2).max() > tolerance:
        raise samples.LostPictureError(
            "colours in place of one code per pixel", "save it with one channel"
        )
    return np.ascontiguousarray(rgb[..., 0])
