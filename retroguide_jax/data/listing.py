"""Lists the images of a folder by id, and reads and writes lists of ids as text files.

Every command that takes a folder of images lists it here, so that all see the same files.
"""

import hashlib
import os
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path

from retroguide_jax.errors import UserError
from retroguide_jax.files import write_beside
from retroguide_jax.text import join_few

_SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff",
    # Listed although not readable: the reader then names them in its error, whereas skipping them
    # would silently shrink the set.
    ".avif", ".heic", ".heif", ".jp2", ".j2k", ".jxl", ".ppm", ".pgm", ".pnm", ".tga", ".psd",
    ".exr", ".hdr", ".dng", ".svg", ".apng",
)  # fmt: skip
# First bytes of the readable formats, for files with an unknown suffix or none.
_BEGINNINGS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"II*\0", b"MM\0*")
_TEXTS = (".txt", ".json", ".csv", ".md", ".html", ".xml", ".yaml", ".yml")  # never images
# Thumbnails of a network disk, leftovers of archives and of file managers; in lower case.
_CLUTTER = ("@eadir", "__macosx", "thumbs.db", "desktop.ini")
_UNLISTABLE = "\n\r\0\ufeff"  # characters that a line of a text file cannot hold


def list_images(
    folder: str | os.PathLike, leave_out: str | os.PathLike | None = None
) -> dict[str, Path]:
    """Finds the image files of a folder and of its sub-folders.

    A file counts as an image by its suffix or, if that is unknown, by its first bytes; whether it
    can be decoded is not checked here. Links are followed, also to files outside the folder. Hidden
    files and folders are skipped.

    Args:
      folder: the folder to search.
      leave_out: a folder inside it to skip, such as the one for results.

    Returns:
      Paths by id, sorted by path. An id is the path inside the folder without the image's suffix,
      parts joined by "/", in composed Unicode (NFC) even where the file system decomposes it.

    Raises:
      UserError: the folder does not exist, cannot be listed or holds no images; two images differ
        only in suffix or in the Unicode form of accents; or a name cannot be a manifest line.
    """
    root = Path(folder)
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; name a folder of images")
    left_out = frozenset() if leave_out is None else frozenset([os.path.realpath(leave_out)])
    found: dict[str, Path] = {}
    doubled, unlistable = [], []
    for path in walk_files(root, left_out):
        if not is_image(path):
            continue
        name = make_id(path.relative_to(root).as_posix())
        if name in found:
            doubled.append(f"{found[name]} and {path.name}")
        if not is_listable(name):
            unlistable.append(repr(str(path)))
        found[name] = path
    for names, what, remedy in (
        (doubled, "images of one name", "keep one of each"),
        (unlistable, "names with line breaks or bytes that are not text", "rename them"),
    ):
        if names:
            raise UserError(f"{join_few(names, what)}; {remedy}")
    if not found:
        raise UserError(f"{root}: no images in it, nor in its sub-folders; name a folder of images")
    return found


def walk_files(folder: Path, above: frozenset[str] = frozenset()) -> Iterator[Path]:
    """Yields the files of a folder and its sub-folders, sorted, following links.

    Skips hidden files, leftovers of other systems, and folders whose real path is in `above`.

    Raises:
      UserError: a folder cannot be read.
    """
    place = os.path.realpath(folder)
    if place in above:  # a link to a parent folder, whose files are listed already
        return
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}; make the folder readable") from None
    for name in names:
        path = folder / name
        if is_clutter(name):
            continue
        if os.path.isdir(path):
            yield from walk_files(path, above | {place})
        # A broken link is kept, so that its reader reports it; a pipe would block the reader.
        elif os.path.isfile(path) or os.path.islink(path):
            yield path


def is_clutter(name: str) -> bool:
    """Whether a file or folder is hidden or a leftover of another system."""
    return name.startswith(".") or name.lower() in _CLUTTER


def is_image(path: str | os.PathLike) -> bool:
    """Whether a file is an image by its suffix or, if that is unknown, by its first bytes."""
    suffix = os.path.splitext(path)[1].lower()
    if suffix in _SUFFIXES:
        return True
    if suffix in _TEXTS or not os.path.isfile(path):
        return False
    try:
        with open(path, "rb") as file:
            start = file.read(12)
    except OSError:
        return False
    return start.startswith(_BEGINNINGS) or (start[:4] == b"RIFF" and start[8:] == b"WEBP")


def make_id(name: str) -> str:
    """The id of an image from its path inside a folder: no suffix, accents composed (NFC)."""
    stem, suffix = os.path.splitext(name)
    return unicodedata.normalize("NFC", stem if suffix.lower() in _SUFFIXES else name)


def read_manifest(path: str | os.PathLike) -> list[str]:
    """Reads a text file of ids (UTF-8), one per line; empty lines are skipped.

    Returns:
      The ids, sorted, in composed Unicode (NFC).

    Raises:
      UserError: it cannot be read, is not text, holds no id, or holds an id twice.
    """
    try:
        # splitlines would also split at characters that names may contain.
        lines = Path(path).read_bytes().decode("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise UserError(f"{path}: {reason}; give a text file of ids, one per line") from None
    names = (unicodedata.normalize("NFC", line.removesuffix("\r")) for line in lines)
    ids = sorted(name for name in names if name)
    if not ids:
        raise UserError(f"{path}: no ids in it; give one per line")
    twice = [name for name, after in zip(ids, ids[1:], strict=False) if name == after]
    if twice:
        raise UserError(
            f"{path}: {join_few(twice, 'ids that stand in it twice')}; keep one of each"
        )
    return ids


def write_manifest(path: str | os.PathLike, ids: Iterable[str]) -> None:
    """Writes ids, one per line, in the order given; a reader never sees a partial file.

    Missing parent folders are created. `read_manifest` reads the file back.

    Raises:
      UserError: an id cannot be a line, or the file cannot be written.
    """
    content = _join_lines(ids)
    with write_beside(path) as beside:
        beside.write_bytes(content)


def fingerprint_ids(ids: Iterable[str]) -> str:
    """sha256 (hexadecimal) of the manifest that lists these ids in the order given.

    Raises:
      UserError: an id cannot be a line.
    """
    return hashlib.sha256(_join_lines(ids)).hexdigest()


def is_listable(name: str) -> bool:
    """Whether a name can be a line of a manifest: no line breaks, no bytes that are not text."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return bool(name) and not any(character in name for character in _UNLISTABLE)


def _join_lines(ids: Iterable[str]) -> bytes:
    ids = list(ids)
    for name in ids:
        if not is_listable(name):
            raise UserError(f"the id {name!r} cannot be a line of a text file; rename the image")
    return "".join(f"{name}\n" for name in ids).encode()
