"""Reads image files to uint8 arrays and writes arrays as PNG files.

All other modules handle only RGB, `[height, width, 3]`; every other kind of file (palette, grey,
CMYK, 16 bit, transparent, rotated by an EXIF flag) is converted here.
"""

import contextlib
import dataclasses
import errno
import io
import os
import re
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from retroguide_jax.data import samples
from retroguide_jax.data.png import strip_metadata
from retroguide_jax.data.signatures import describe_unknown
from retroguide_jax.errors import UserError
from retroguide_jax.files import write_beside

FORMATS = ("JPEG", "PNG")  # formats that data sets store
READABLE_FORMATS = (*FORMATS, "WEBP", "BMP", "GIF", "TIFF")  # formats accepted from users
MAX_PIXELS = 150_000_000  # accepts a 12,000 x 12,000 aerial tile, rejects a decompression bomb
# Pillow's warnings about sizes (`open_image` enforces the limit) and metadata do not help users.
warnings.filterwarnings("ignore", module="PIL")
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
_ON_THE_SIDE = (5, 6, 7, 8)  # orientations with height and width swapped in the file
# Errors of Pillow's readers on malformed bytes: more than OSError, as its fuzzing history shows.
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


_STORAGE_ERRORS = (errno.EIO, errno.ESTALE, errno.ETIMEDOUT)


class UnreadableImageError(UserError):
    """An image is missing, truncated, too large, not of an accepted format, or loses its picture.

    Attributes:
      name: the image's name, usually its path.
      reason: the cause in a few words, without the name.
      fix: the next step.
    """

    def __init__(self, name: str, reason: str, formats: Sequence[str] = FORMATS, fix: str = ""):
        self.name, self.reason = name, reason
        self.fix = fix or f"give a complete {_join_or(formats)} file"
        super().__init__(f"{name}: {reason}; {self.fix}")


@dataclasses.dataclass(frozen=True)
class Picture:
    """A decoded image.

    Attributes:
      pixels: uint8 `[height, width, 3]`, contiguous.
      conversions: the conversions of its samples, in words ("16-bit samples: the high byte"); empty
        for a file of opaque 8-bit samples.
    """

    pixels: np.ndarray
    conversions: tuple[str, ...]

    def describe_flatness(self) -> str:
        """Describes a picture without content ("one colour"); "" for any other picture."""
        return samples.describe_flatness(self.pixels)


def decode_image(
    source: bytes | str | os.PathLike,
    size: tuple[int, int] | None = None,
    *,
    name: str = "",
    formats: Sequence[str] = FORMATS,
) -> np.ndarray:
    """The pixels of `read_image`: uint8 `[height, width, 3]`, contiguous."""
    return read_image(source, size, name=name, formats=formats).pixels


def read_image(
    source: bytes | str | os.PathLike,
    size: tuple[int, int] | None = None,
    *,
    name: str = "",
    formats: Sequence[str] = FORMATS,
) -> Picture:
    """Decodes an image of any kind to RGB, and reports how its samples were converted.

    EXIF orientation is applied; grey and palette images are expanded; CMYK is converted; for 16-bit
    and 32-bit samples and transparency see `samples.to_rgb`; only the first frame is read.

    Args:
      source: the encoded bytes, or the path of a file.
      size: (height, width) in pixels to resize to; None keeps the stored size.
      name: the image's name in error messages; by default its path.
      formats: Pillow's names of the accepted formats, whatever the file's suffix.

    Raises:
      UnreadableImageError: the bytes are not a complete image of `formats`, it is too large, or its
        samples cannot be converted without losing the picture.
    """
    name = name or ("image" if isinstance(source, bytes) else os.fspath(source))
    try:
        return _read_image(source, size, name, formats)
    except UnreadableImageError:
        bare = strip_metadata(source)  # the pixels may be intact
        if bare is None:
            raise
        return _read_image(bare, size, name, formats)


def _read_image(source, size, name: str, formats: Sequence[str]) -> Picture:
    with open_image(source, name, formats) as image:
        if size and image.format in ("JPEG", "MPO"):
            # A JPEG decodes at 1/2, 1/4 or 1/8 of its size in a fraction of the time; twice the
            # target size is enough for the final resampling filter.
            height, width = size[::-1] if find_orientation(image) in _ON_THE_SIDE else size
            image.draft("RGB", (2 * width, 2 * height))
        deep = samples.is_deep(image)
        image.load()
        orientation = find_orientation(image)
        rgb, conversions = samples.to_rgb(image, deep=deep)
    for transpose in _TRANSPOSES.get(orientation, ()):
        rgb = rgb.transpose(transpose)
    if size and rgb.size != (size[1], size[0]):
        rgb = rgb.resize((size[1], size[0]), Image.Resampling.BICUBIC)
    return Picture(np.array(rgb), conversions)


@contextlib.contextmanager
def open_image(
    source: bytes | str | os.PathLike | BinaryIO, name: str, formats: Sequence[str] = FORMATS
) -> Iterator[Image.Image]:
    """Opens an image without decoding its pixels; translates Pillow's errors inside the context.

    Args:
      source: the encoded bytes, the path of a file, or an open file.
      name: the image's name in error messages.
      formats: Pillow's names of the accepted formats, whatever the file's suffix.

    Raises:
      UnreadableImageError: see `read_image`.
    """
    try:
        is_bytes = isinstance(source, bytes)
        with Image.open(io.BytesIO(source) if is_bytes else source, formats=formats) as image:  # pyright: ignore[reportArgumentType]
            if image.width * image.height > MAX_PIXELS:
                raise _make_size_error(name, f"{image.width} x {image.height}")
            yield image
    except UnreadableImageError:
        raise
    except samples.LostPictureError as error:
        raise UnreadableImageError(name, error.reason, formats, error.fix) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        # Pillow gives the header's size only in its message.
        num = int(re.findall(r"\d+", str(error))[0])
        raise _make_size_error(name, f"{num // 10**6} million") from None
    except Image.UnidentifiedImageError:
        reason, fix = describe_unknown(source, _join_or(formats))
        raise UnreadableImageError(name, reason, formats, fix) from None
    except DECODE_ERRORS as error:
        is_storage = isinstance(error, OSError) and error.errno in _STORAGE_ERRORS
        fix = "look at the disk or mount and try again" if is_storage else ""
        raise UnreadableImageError(name, describe_error(error), formats, fix) from None


def _make_size_error(name: str, size: str) -> UnreadableImageError:
    fix = f"shrink it to fewer than {MAX_PIXELS // 10**6} million, or cut it into tiles"
    return UnreadableImageError(name, f"too large: {size} pixels", fix=fix)


def find_orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8; 1 (upright) also if the metadata cannot be read.

    A PNG may store it after the pixels, where it is found only if the image was loaded before.
    """
    try:
        orientation = Image.Image.getexif(image).get(EXIF_ORIENTATION, 1)
    except DECODE_ERRORS:
        return 1
    return orientation if orientation in _TRANSPOSES else 1


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
    """Writes uint8 `[H, W, 3]` or `[H, W]` as PNG; a reader never sees a partial file.

    Missing parent folders are created.

    Raises:
      UserError: the file cannot be written (no permission, disk full, a folder of that name).
    """
    with write_beside(path) as beside:
        Image.fromarray(image).save(beside, format="PNG")


def enlarge_lower(images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Enlarges the lower images of a row by integer factors, so that all are about equally high."""
    height = max(image.shape[0] for image in images)
    factors = [height // image.shape[0] for image in images]
    return [image.repeat(n, 0).repeat(n, 1) for image, n in zip(images, factors, strict=True)]


def make_grid(
    rows: Sequence[Sequence[np.ndarray]],
    *,
    gap: int = 2,
    scale: int = 1,
    captions: Sequence[str] | None = None,
    headings: Sequence[str] | None = None,
) -> np.ndarray:
    """Lays images out in rows and aligned columns on white.

    Args:
      rows: rows of uint8 `[H, W, 3]` images; sizes may differ, rows may be of different lengths.
      gap: pixels between neighbours and around the border.
      scale: integer enlargement of every image, nearest-neighbour, so that pixels stay sharp.
      captions: one text per row, drawn above it; None draws none.
      headings: one text per column, drawn above the first row and cut off at the width of the
        column; None draws none.

    Returns:
      uint8 `[H, W, 3]`.

    Raises:
      ValueError: there is no image, or not one caption per row or one heading per column.
    """
    if not any(len(row) for row in rows):
        raise ValueError("a grid needs at least one image")
    if captions is not None and len(captions) != len(rows):
        raise ValueError(f"{len(captions)} captions for {len(rows)} rows")
    num_columns = max(len(row) for row in rows)
    if headings is not None and len(headings) != num_columns:
        raise ValueError(f"{len(headings)} headings for {num_columns} columns")
    widths = [
        scale * max((row[c].shape[1] for row in rows if c < len(row)), default=0)
        for c in range(num_columns)
    ]
    lefts = [gap + sum(widths[:column]) + column * gap for column in range(num_columns)]
    heights = [scale * max((image.shape[0] for image in row), default=0) for row in rows]
    canvas_width = gap + sum(width + gap for width in widths)
    # Legible where a page shows the whole grid about 900 pixels wide.
    text_size = max(10, canvas_width // 80)
    text_height = text_size * 13 // 10
    caption_height = 0 if captions is None else text_height
    top = gap + (0 if headings is None else text_height)
    canvas_height = top + sum(height + gap + caption_height for height in heights)
    canvas = np.full((canvas_height, canvas_width, 3), 255, np.uint8)
    for heading, left, width in zip(headings or (), lefts, widths, strict=False):
        _draw_text(canvas[gap:top, left : left + width], heading, text_size)
    for number, (row, height) in enumerate(zip(rows, heights, strict=True)):
        if captions is not None:
            _draw_text(canvas[top : top + caption_height, gap:], captions[number], text_size)
        top += caption_height
        for image, left in zip(row, lefts, strict=False):
            enlarged = image.repeat(scale, axis=0).repeat(scale, axis=1)
            canvas[top : top + enlarged.shape[0], left : left + enlarged.shape[1]] = enlarged
        top += height + gap
    return canvas


def _draw_text(strip: np.ndarray, text: str, size: int) -> None:
    """Draws one line in black into a strip `[H, W, 3]` of a canvas, in place."""
    picture = Image.fromarray(strip)
    font = ImageFont.load_default(size=size)
    ImageDraw.Draw(picture).text((0, 0), text, fill=(0, 0, 0), font=font)
    strip[:] = np.asarray(picture)


def _join_or(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


def describe_error(error: BaseException) -> str:
    """Describes one of `DECODE_ERRORS` in a few words."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, OSError) and error.strerror:  # from the file system, not from Pillow
        return error.strerror.lower()
    if "truncated" in str(error).lower():
        return "truncated image"
    detail = " ".join(str(error).split())[:100]
    return f"damaged image ({detail})" if detail else "damaged image"
