"""Removes metadata chunks from a PNG file, because damaged metadata need not affect its pixels."""

import os
import zlib

_MAGIC = b"\x89PNG\r\n\x1a\n"
_PIXEL_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")


def strip_metadata(source: bytes | str | os.PathLike) -> bytes | None:
    """Returns a PNG file without texts, profiles and dates, for readers that fail on those.

    The EXIF chunk (eXIf), which may hold the orientation, is kept if it is intact.

    Args:
      source: the encoded bytes, or the path of a file.

    Returns:
      The remaining bytes; None if it is not a complete PNG or has nothing to remove.
    """
    content = source if isinstance(source, bytes) else _read(source)
    if not content.startswith(_MAGIC):
        return None
    kept, place, name = [_MAGIC], len(_MAGIC), b""
    while name != b"IEND" and place + 12 <= len(content):
        length = int.from_bytes(content[place : place + 4])
        name = content[place + 4 : place + 8]
        chunk = content[place : place + 12 + length]
        place += 12 + length
        is_intact = zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:])
        if name in _PIXEL_CHUNKS or (name == b"eXIf" and is_intact):
            kept.append(chunk)
    bare = b"".join(kept)
    return bare if name == b"IEND" and len(bare) < len(content) else None


def _read(path: str | os.PathLike) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except (OSError, ValueError):
        return b""
