"""Converts the samples of an image file to 8-bit RGB, and checks that the picture survives.

The sample type gives the range available, not the range used: 11-bit sensor data in a 16-bit file
loses its picture if only the high byte is kept.
"""

import numpy as np
from PIL import Image

# Of 256 levels: the number that 12-bit samples in a 16-bit file keep in their high byte.
_FEW_LEVELS = 16
_NARROW_SPAN = 8
_LEAST_OPAQUE, _MOST_TRANSLUCENT = 0.05, 0.5
_PLAIN_MODES = ("RGB", "L", "1", "P", "CMYK", "YCbCr")
_RESCALE = "rescale its samples to 8 bits, all files by one rule"


class LostPictureError(Exception):
    """A conversion to 8-bit RGB would lose the picture; holds the reason and the fix."""

    def __init__(self, reason: str, fix: str):
        super().__init__(reason)
        self.reason, self.fix = reason, fix


def is_deep(image: Image.Image) -> bool:
    """Whether an image that is not loaded yet has 16-bit samples in its file, whatever its mode."""
    return any(";16" in str(tile.args) for tile in image.tile)  # pyright: ignore[reportAttributeAccessIssue]


def is_plain(image: Image.Image) -> bool:
    """Whether an image that is not loaded yet has opaque 8-bit samples, which lose nothing."""
    is_opaque = not image.has_transparency_data
    return image.mode in _PLAIN_MODES and is_opaque and not is_deep(image)


def to_rgb(image: Image.Image, *, deep: bool) -> tuple[Image.Image, tuple[str, ...]]:
    """Converts a loaded image to RGB.

    16-bit samples keep their high byte; 32-bit integers up to 255 stay unchanged; floating point up
    to 1 is multiplied by 255, up to 255 rounded. Transparent pixels are composited over black.

    Args:
      image: a loaded image of any mode.
      deep: the value of `is_deep` before the image was loaded.

    Returns:
      (the image, the conversions of its samples in words: empty for opaque 8-bit samples).

    Raises:
      LostPictureError: samples lie outside those ranges; 16 or fewer of many more levels are left;
        or the alpha channel leaves (almost) no pixel opaque.
    """
    done = []
    if image.mode[0] in "IF":
        values = np.asarray(image)
        scaled, text = _scale(values, is_float=image.mode == "F", deep=deep)
        _check_levels(scaled, values)
        return Image.fromarray(scaled).convert("RGB"), (text,)
    if image.has_transparency_data:
        image, text = _lay_over_black(image.convert("RGBA"))
        done += [text] if text else []
    image = image if image.mode == "RGB" else image.convert("RGB")
    if deep:
        _check_levels(np.asarray(image), None)
        done.append("16-bit samples: the high byte")
    return image, tuple(done)


def describe_flatness(pixels: np.ndarray) -> str:
    """Describes uint8 `[H, W, 3]` of (nearly) one colour, in words; "" for any other image."""
    # Per channel, because NumPy takes thirty times as long over both axes at once.
    ends = [(int(channel.min()), int(channel.max())) for channel in np.moveaxis(pixels, -1, 0)]
    span = max(high - low for low, high in ends)
    if span > _NARROW_SPAN:
        return ""
    if span == 0:
        return "one colour"
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    return f"nearly one colour (levels {low} to {high} of 255)"


def _scale(values: np.ndarray, *, is_float: bool, deep: bool) -> tuple[np.ndarray, str]:
    low, high = (values.min(), values.max()) if values.size else (0, 0)
    kind = "floating-point" if is_float else "16-bit" if deep else "32-bit"
    most = 255 if is_float else 65535
    if not (low >= 0 and high <= most):  # neither is true of NaN
        raise LostPictureError(f"{kind} samples from {low:g} to {high:g}", _RESCALE)
    if is_float:
        factor, text = (255, "0..1 times 255") if high <= 1 else (1, "0..255 rounded")
        return np.rint(values * factor).astype(np.uint8), f"{kind} samples: {text}"
    if not deep and high <= 255:
        return values.astype(np.uint8), f"{kind} samples: 0..255 as they are"
    return (values >> 8).astype(np.uint8), f"{kind} samples: the high byte"


def _check_levels(scaled: np.ndarray, values: np.ndarray | None) -> None:
    """Raises LostPictureError if too few levels are left of `values` (None if unknown)."""
    num_left = np.count_nonzero(np.bincount(scaled.ravel(), minlength=256))
    if num_left > _FEW_LEVELS + 2:  # two more, for the codes of pixels without data
        return
    if values is None:  # few colours alone are no loss, but few in the darkest levels are
        is_lost = np.median(scaled) < _FEW_LEVELS
    else:
        is_lost = len(np.unique(values)) >= 2 * num_left
    if is_lost:
        span = "" if values is None else f" from {values.min():g} to {values.max():g}"
        raise LostPictureError(
            f"samples{span} of which {num_left} of 256 levels are left", _RESCALE
        )


def _lay_over_black(rgba: Image.Image) -> tuple[Image.Image, str]:
    counts = rgba.getchannel("A").histogram()
    num = sum(counts)
    opaque, translucent = counts[255] / num, sum(counts[1:255]) / num
    if opaque == 1:
        return rgba.convert("RGB"), ""
    if opaque < _LEAST_OPAQUE or translucent > _MOST_TRANSLUCENT:
        raise LostPictureError(
            f"an alpha channel with {opaque:.0%} of the pixels opaque",
            "save it as RGB without alpha, or without a fourth band (near infrared)",
        )
    black = Image.new("RGBA", rgba.size, (0, 0, 0, 255))
    return Image.alpha_composite(black, rgba).convert("RGB"), "transparent pixels laid over black"
