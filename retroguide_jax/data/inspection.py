"""What an image file is, without decoding it: enough to find nearly all that is wrong with one."""

from __future__ import annotations

import dataclasses
import io
import os
from collections.abc import Sequence
from typing import BinaryIO

from retroguide_jax.data import images, samples
from retroguide_jax.data.png import strip_metadata

_TAIL = 4096  # bytes; an end marker stands in them unless a camera has put something after it
_END_OF_JPEG, _START_OF_SCAN = b"\xff\xd9", 0xDA
_END_OF_PNG = b"\x00\x00\x00\x00IEND\xaeB`\x82"
_LATE_CHUNKS = (b"eXIf", b"iTXt", b"zTXt")  # where a PNG may say that it is to be turned


@dataclasses.dataclass(frozen=True, slots=True)
class ImageFacts:
    """What the header of an image file says.

    Attributes:
      height, width: pixels, as shown (after EXIF rotation).
      format: "JPEG", "PNG" and so on, whatever the file is called.
      mode: Pillow's: RGB, L (grey), P, CMYK, RGBA, I;16 ...
      is_rotated: an EXIF flag turns or mirrors it.
      is_plain: opaque samples of 8 bits, of which decoding loses none.
    """

    height: int
    width: int
    format: str
    mode: str
    is_rotated: bool
    is_plain: bool


def inspect_file(path: str | os.PathLike, formats: Sequence[str] = images.FORMATS) -> ImageFacts:
    """Reads the header and the end of an image file, some hundred microseconds.

    A file that was cut off (JPEG and PNG), is empty, of another kind or larger than
    `images.MAX_PIXELS` is found; damage in the middle of the pixels only by decoding.

    Args:
      path: of the file.
      formats: Pillow's names of the formats that are accepted, whatever the file is called.

    Raises:
      UnreadableImageError: it is missing, of another format, too large, or ends too early.
    """
    name = os.fspath(path)
    try:
        with open(path, "rb") as file:
            return _inspect(file, name, formats)
    except images.UnreadableImageError:
        bare = strip_metadata(path)  # its pixels may be whole
        if bare is None:
            raise
        return _inspect(io.BytesIO(bare), name, formats)
    except images.DECODE_ERRORS as error:
        raise images.UnreadableImageError(name, images.describe_error(error), formats) from None


def _inspect(file: BinaryIO, name: str, formats: Sequence[str]) -> ImageFacts:
    with images.open_image(file, name, formats) as image:
        height, width, mode = image.height, image.width, image.mode
        # A JPEG that carries a second picture (a gain map, a depth map) is an "MPO" to Pillow; its
        # first picture is what counts.
        kind = "JPEG" if image.format == "MPO" else image.format
        is_plain = samples.is_plain(image)
        tail = _read_tail(file, _TAIL)
        if any(chunk in tail for chunk in _LATE_CHUNKS):
            image.load()  # Pillow finds a flag behind the pixels only so
        orientation = images.find_orientation(image)
        if not _is_complete(file, kind, tail):
            raise images.UnreadableImageError(name, "truncated image", formats)
    if orientation in (5, 6, 7, 8):
        height, width = width, height
    return ImageFacts(height, width, kind, mode, orientation != 1, is_plain)


def _read_tail(file, most: int) -> bytes:
    place = file.tell()
    length = file.seek(0, os.SEEK_END)
    file.seek(max(0, length - most))
    tail = file.read()
    file.seek(place)
    return tail


def _is_complete(file, kind: str, tail: bytes) -> bool:
    """Whether the image's end marker is there; of formats without one, always."""
    if kind not in images.FORMATS:
        return True
    if kind == "PNG" and _END_OF_PNG in tail:
        return True
    # Pillow found the start of the pixels, and in them the marker cannot occur.
    if kind == "JPEG" and tail.rstrip(b"\0").endswith(_END_OF_JPEG):
        return True
    # Something follows the image (a preview, a trailer), or its end is missing.
    file.seek(0)
    content = file.read()
    if kind == "PNG":
        return _END_OF_PNG in content
    return content.find(_END_OF_JPEG, _find_scan(content)) >= 0


def _find_scan(content: bytes) -> int:
    """Where a JPEG's pixels begin: behind its segments, which may hold thumbnails' end markers."""
    place = 2
    while 0 <= place < len(content) - 3:
        marker = content[place + 1]
        if content[place] != 0xFF or marker == 0xFF:  # junk, or filling
            place += 1
        elif marker == _START_OF_SCAN:
            return place
        elif marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD9:  # these have no length
            place += 2
        else:
            place += 2 + int.from_bytes(content[place + 2 : place + 4])
    return len(content)
