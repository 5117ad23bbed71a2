"""Image files in, uint8 arrays between, PNG files out: the edge between files and the models.

Everything inside the package is RGB, `[height, width, 3]`; every odd thing a file can be (palette,
grey, CMYK, 16 bit, transparent, rotated by an EXIF flag) ends here.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from retroguide_jax.errors import UserError
from retroguide_jax.files import write_beside

FORMATS = ("JPEG", "PNG")  # what data sets store
READABLE_FORMATS = (*FORMATS, "WEBP", "BMP", "GIF", "TIFF")  # what a person may hand over
MAX_PIXELS = 150_000_000  # a 12,000 x 12,000 aerial tile passes, a decompression bomb does not
EXIF_ORIENTATION = 0x0112
_TRANSPOSES = {
    2: (Image.Transpose.FLIP_LEFT_RIGHT,),
    3: (Image.Transpose.ROTATE_180,),
    4: (Image.Transpose.FLIP_TOP_BOTTOM,),
    5: (Image.Transpose.TRANSPOSE,),
    6: (Image.Transpose.ROTATE_270,),
    7: (Image.Transpose.TRANSVERSE,),
    8: (Image.Transpose.ROTATE_90,),
}
# What Pillow's readers raise on hostile bytes: more than OSError, as its fuzzing history shows.
DECODE_ERRORS = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    TypeError,
    IndexError,
    KeyError,
    OverflowError,
    AttributeError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


class UnreadableImageError(UserError):
    """An image that is missing, truncated, too large to be honest, or of no accepted format.

    Attributes:
      name: what the image is called, a path mostly.
      reason: the cause in a few words, without the name.
    """

    def __init__(self, name: str, reason: str, formats: Sequence[str] = FORMATS):
        self.name, self.reason = name, reason
        super().__init__(
            f"{name}: {reason}; give a complete {_join_or(formats)} file of fewer than "
            f"{MAX_PIXELS // 10**6} million pixels"
        )


def decode_image(
    source: bytes | str | os.PathLike,
    size: tuple[int, int] | None = None,
    *,
    name: str = "",
    min_size: tuple[int, int] | None = None,
    formats: Sequence[str] = FORMATS,
) -> np.ndarray:
    """Decodes an image of any kind to RGB.

    EXIF orientation is obeyed; grey and palette images are expanded; CMYK is converted; 16-bit
    samples keep their high byte; transparent pixels are laid over black; of several frames the
    first counts.

    Args:
      source: the encoded bytes, or the path of a file.
      size: (height, width) in pixels to resize to; None keeps the stored size.
      name: what errors call the image; a path's own name when left out.
      min_size: (height, width) in pixels below which the image is refused; None accepts any.
      formats: Pillow's names of the formats that are accepted, whatever the file is called.

    Returns:
      uint8 `[height, width, 3]`, contiguous.

    Raises:
      UnreadableImageError: the bytes are not a complete, honest image of `formats`, or too small.
    """
    is_bytes = isinstance(source, bytes)
    name = name or ("image" if is_bytes else os.fspath(source))
    try:
        with Image.open(io.BytesIO(source) if is_bytes else source, formats=formats) as image:
            if image.width * image.height > MAX_PIXELS:
                raise UnreadableImageError(name, f"{image.width} x {image.height} pixels", formats)
            orientation = image.getexif().get(EXIF_ORIENTATION, 1)
            swapped = orientation in (5, 6, 7, 8)
            height, width = (image.width, image.height) if swapped else (image.height, image.width)
            if min_size and (height < min_size[0] or width < min_size[1]):
                raise UnreadableImageError(
                    name,
                    f"too small: {height} x {width} pixels (height x width), "
                    f"at least {min_size[0]} x {min_size[1]} wanted",
                    formats,
                )
            if size:
                # A JPEG can be decoded at 1/2, 1/4 or 1/8 of its size for a fraction of the time;
                # twice the wanted size leaves the final filter enough to work with.
                image.draft("RGB", (2 * max(size), 2 * max(size)))
            image.load()
            rgb = _to_rgb(image)
    except UnreadableImageError:
        raise
    except Image.UnidentifiedImageError:
        raise UnreadableImageError(name, f"not a {_join_or(formats)} image", formats) from None
    except DECODE_ERRORS as error:
        raise UnreadableImageError(name, describe_error(error), formats) from None
    for transpose in _TRANSPOSES.get(orientation, ()):
        rgb = rgb.transpose(transpose)
    if size and rgb.size != (size[1], size[0]):
        rgb = rgb.resize((size[1], size[0]), Image.Resampling.BICUBIC)
    return np.array(rgb)


def decode_mask(source: bytes, size: tuple[int, int]) -> np.ndarray:
    """Decodes a stored 0/255 mask; nearest-neighbour, so that a resized mask stays a mask.

    Args:
      source: the encoded bytes of a single-channel PNG.
      size: (height, width) in pixels of the result.

    Returns:
      bool `[height, width]`.

    Raises:
      UnreadableImageError: the bytes are not a complete PNG.
    """
    try:
        with Image.open(io.BytesIO(source), formats=FORMATS) as image:
            mask = image.convert("L")
    except DECODE_ERRORS as error:
        raise UnreadableImageError("mask", describe_error(error)) from None
    if mask.size != (size[1], size[0]):
        mask = mask.resize((size[1], size[0]), Image.Resampling.NEAREST)
    return np.asarray(mask) > 127


def decode_labels(source: bytes, size: tuple[int, int]) -> np.ndarray:
    """Decodes stored class labels, which must be of `size` already: labels cannot be blended.

    Args:
      source: the encoded bytes of a single-channel PNG.
      size: (height, width) in pixels.

    Returns:
      uint8 `[height, width]`.

    Raises:
      UserError: the bytes are not a complete PNG, or of another size.
    """
    try:
        with Image.open(io.BytesIO(source), formats=FORMATS) as image:
            labels = np.array(image.convert("L"))
    except DECODE_ERRORS as error:
        raise UnreadableImageError("labels", describe_error(error)) from None
    if labels.shape != tuple(size):
        raise UserError(
            f"labels are stored at {labels.shape}, config.data.ground_size is {tuple(size)}; "
            "evaluate at the size the data set was rendered at"
        )
    return labels


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes uint8 `[H, W, 3]` to `size` (height, width), bicubic with antialiasing.

    Raises:
      ValueError: the array is not uint8 `[H, W, 3]`.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"expected uint8 [H, W, 3], got {image.dtype} {image.shape}")
    if image.shape[:2] == tuple(size):
        return image
    resized = Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BICUBIC)
    return np.array(resized)


def to_float(image: np.ndarray) -> np.ndarray:
    """Maps uint8 0..255 to float32 -1..1, any shape."""
    scaled = np.multiply(image, np.float32(1 / 127.5), dtype=np.float32)
    return np.subtract(scaled, np.float32(1), out=scaled)


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Maps float -1..1 (clipped) to uint8 0..255, any shape; the inverse of `to_float`."""
    scaled = (np.asarray(image, np.float32) + 1) * 127.5
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def write_png(path: str | os.PathLike, image: np.ndarray) -> None:
    """Writes uint8 `[H, W, 3]` or `[H, W]` as PNG; a reader never sees half a file.

    Missing parent folders are made.

    Raises:
      UserError: the file cannot be written (no permission, disk full, a folder of that name).
    """
    with write_beside(path) as beside:
        Image.fromarray(image).save(beside, format="PNG")


def make_grid(
    rows: Sequence[Sequence[np.ndarray]],
    *,
    gap: int = 2,
    scale: int = 1,
    captions: Sequence[str] | None = None,
) -> np.ndarray:
    """Lays images out in rows and aligned columns on white.

    Args:
      rows: rows of uint8 `[H, W, 3]` images; sizes may differ, rows may be of different lengths.
      gap: pixels between neighbours and around the border.
      scale: whole-number enlargement of every image, nearest-neighbour, so that pixels stay pixels.
      captions: one text a row, drawn above it; None draws none.

    Returns:
      uint8 `[H, W, 3]`.

    Raises:
      ValueError: no image at all, or not one caption a row.
    """
    if not any(len(row) for row in rows):
        raise ValueError("a grid needs at least one image")
    if captions is not None and len(captions) != len(rows):
        raise ValueError(f"{len(captions)} captions for {len(rows)} rows")
    num_columns = max(len(row) for row in rows)
    widths = [
        scale * max((row[c].shape[1] for row in rows if c < len(row)), default=0)
        for c in range(num_columns)
    ]
    heights = [scale * max((image.shape[0] for image in row), default=0) for row in rows]
    text_height = 0 if captions is None else 13  # one line of Pillow's built-in font
    canvas = np.full(
        (
            gap + sum(height + gap + text_height for height in heights),
            gap + sum(width + gap for width in widths),
            3,
        ),
        255,
        np.uint8,
    )
    top = gap
    caption_tops = []
    for row, height in zip(rows, heights, strict=True):
        caption_tops.append(top)
        top += text_height
        left = gap
        for image, width in zip(row, widths, strict=False):
            enlarged = image.repeat(scale, axis=0).repeat(scale, axis=1)
            canvas[top : top + enlarged.shape[0], left : left + enlarged.shape[1]] = enlarged
            left += width + gap
        top += height + gap
    if captions is not None:
        canvas = _draw_captions(canvas, captions, caption_tops, gap)
    return canvas


def _draw_captions(
    canvas: np.ndarray, captions: Sequence[str], tops: Sequence[int], left: int
) -> np.ndarray:
    picture = Image.fromarray(canvas)
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=10)
    for caption, top in zip(captions, tops, strict=True):
        draw.text((left, top), caption, fill=(0, 0, 0), font=font)
    return np.array(picture)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I"):
        # Pillow's own conversion clips 16-bit samples at 255 instead of scaling them.
        high_byte = np.clip(np.asarray(image).astype(np.int64) >> 8, 0, 255).astype(np.uint8)
        return Image.fromarray(high_byte).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        black = Image.new("RGBA", rgba.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, rgba).convert("RGB")
    return image.convert("RGB")


def _join_or(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


def describe_error(error: BaseException) -> str:
    """One of `DECODE_ERRORS` in a few words."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, OSError) and error.strerror:  # the file system's, not Pillow's
        return error.strerror.lower()
    if "truncated" in str(error).lower():
        return "truncated image"
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return "too many pixels"
    detail = " ".join(str(error).split())[:100]
    return f"damaged image ({detail})" if detail else "damaged image"
