"""Resizes images before scoring, by named protocols: the choice changes every metric."""

import dataclasses
import re

import numpy as np
from PIL import Image

from retroguide_jax.errors import UserError

_PILLOW = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
METHODS = (*_PILLOW, "area")
_MOST = 16_384  # pixels per side


@dataclasses.dataclass(frozen=True)
class Resize:
    """A resize of uint8 images to one size.

    Attributes:
      method: of `METHODS`. Pillow's names mean Pillow's filters, antialiased (all but nearest)
        and rounded to uint8 after each of their two passes. "area" weights each pixel by the
        share of it that is covered, as OpenCV's INTER_AREA does (SAFA, GPG2A); Pillow's box takes
        entire pixels, which is the same only for integer factors.
      height, width: pixels.
    """

    method: str
    height: int
    width: int

    @property
    def protocol(self) -> str:
        """The resize in words, as reported with the scores."""
        how = "OpenCV's INTER_AREA" if self.method == "area" else f"Pillow's {self.method}"
        smooth = "" if self.method == "nearest" else ", antialiased"
        return f"resized to {self.height}x{self.width} by {how}{smooth}, on uint8"

    def check(self, height: int, width: int) -> None:
        """Raises UserError if images of that size cannot be resized by the method.

        OpenCV's INTER_AREA enlarges by another method than areas.
        """
        if self.method == "area" and (height < self.height or width < self.width):
            raise UserError(
                f"--resize=area:{self.height}x{self.width} would enlarge a {height}x{width} image; "
                "name bilinear, bicubic or lanczos"
            )

    def apply(self, image: np.ndarray) -> np.ndarray:
        """Resizes uint8 [H, W, 3]; one that has the size already is returned as it is.

        Raises:
          UserError: see `check`.
        """
        height, width = image.shape[:2]
        if (height, width) == (self.height, self.width):
            return image
        self.check(height, width)
        if self.method == "area":
            return _average_areas(image, self.height, self.width)
        resized = Image.fromarray(image).resize((self.width, self.height), _PILLOW[self.method])
        return np.array(resized)


def parse_resize(text: str) -> Resize:
    """Reads METHOD:HxW, for example "bicubic:128x512" (height x width).

    Raises:
      UserError: it is of another form, the method is unknown, or a side is 0 or above 16,384.
    """
    match = re.fullmatch(r"([a-z]+):(\d{1,5})x(\d{1,5})", text)
    if not match:
        raise UserError(f"--resize={text}: give METHOD:HxW, height first, as in bicubic:128x512")
    method, height, width = match[1], int(match[2]), int(match[3])
    if method not in METHODS:
        raise UserError(f"--resize={text}: no method {method!r}; there are {', '.join(METHODS)}")
    if not (0 < height <= _MOST and 0 < width <= _MOST):
        raise UserError(f"--resize={text}: sides must be 1 to {_MOST:,} pixels")
    return Resize(method, height, width)


def _average_areas(image: np.ndarray, height: int, width: int) -> np.ndarray:
    rows, columns = image.shape[0], image.shape[1]
    sums = _sum_spans(_sum_spans(image, height, axis=0), width, axis=1)
    means = sums * (height / rows * width / columns)
    if (rows, columns) == (2 * height, 2 * width):
        return np.floor(means + 0.5).astype(np.uint8)  # OpenCV rounds halves up in this case alone
    return np.rint(means).astype(np.uint8)


def _sum_spans(values: np.ndarray, num: int, axis: int) -> np.ndarray:
    """Sums, float64, over `num` equal spans of an axis, whose ends may lie inside a pixel."""
    length = values.shape[axis]
    ends = np.arange(num + 1) * length / num
    whole = np.minimum(ends.astype(np.int64), length - 1)
    parts = np.expand_dims(ends - whole, tuple(i for i in range(values.ndim) if i != axis))
    # Sum up to each end: all pixels up to it, minus the part of the last one that is beyond it.
    until = np.cumsum(values, axis=axis, dtype=np.int32 if values.dtype == np.uint8 else None)
    sums = until.take(whole, axis) + (parts - 1) * values.take(whole, axis)
    return np.diff(sums, axis=axis)
