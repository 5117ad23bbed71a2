"""Identifies files that are not accepted images by their first bytes."""

import os
from typing import Any

_CONVERT = "convert it to 8-bit PNG"
_FETCH = "fetch the file itself"
# (first bytes, kind of file, fix); the first match wins.
_SIGNATURES = (
    (b"\xff\xd8\xff", "a damaged JPEG", ""),
    (b"\x89PNG\r\n\x1a\n", "a damaged PNG", ""),
    (b"II*\0", "a TIFF", _CONVERT),
    (b"MM\0*", "a TIFF", _CONVERT),
    (b"II+\0", "a BigTIFF", _CONVERT),
    (b"MM\0+", "a BigTIFF", _CONVERT),
    (b"GIF8", "a GIF", _CONVERT),
    (b"BM", "a BMP", _CONVERT),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000", _CONVERT),
    (b"\xff\x4f\xff\x51", "a JPEG 2000", _CONVERT),
    (b"version https://git-lfs", "a pointer of Git LFS", f"{_FETCH} with git lfs pull"),
    (b"<!DOCTYPE", "a web page", f"{_FETCH}: the download gave a page instead"),
    (b"<html", "a web page", f"{_FETCH}: the download gave a page instead"),
)


def describe_unknown(source: Any, wanted: str) -> tuple[str, str]:
    """Describes an image that Pillow does not recognize.

    Args:
      source: its bytes, a path or an open file.
      wanted: the accepted formats, in words.

    Returns:
      (reason, fix); the fix is "" if the file has to be replaced.
    """
    head = _read_head(source)
    if not head:
        return f"not a {wanted} image: the file is empty", ""
    if not any(head):
        return f"not a {wanted} image: its bytes are zero", ""
    for start, what, fix in _SIGNATURES:
        if head.startswith(start):
            return f"not a {wanted} image, but {what}", fix
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return f"not a {wanted} image, but a WebP", _CONVERT
    if head[4:8] == b"ftyp":
        return f"not a {wanted} image, but a HEIF, AVIF or a film", _CONVERT
    return f"not a {wanted} image", ""


def _read_head(source: Any) -> bytes:
    try:
        if isinstance(source, bytes):
            return source[:64]
        if isinstance(source, (str, os.PathLike)):
            with open(source, "rb") as file:
                return file.read(64)
        source.seek(0)
        return source.read(64)
    except (OSError, ValueError):
        return b"?"
